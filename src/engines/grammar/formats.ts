const year = "[0-9]{4}";
const leapYear = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)";
const date = `(${year}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|${leapYear}-02-29)`;
const time = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
const octet = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const ipv4 = `${octet}(\\.${octet}){3}`;
const group = "[0-9a-fA-F]{1,4}";
const label = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
const percent = "%[0-9a-fA-F]{2}";
const pathCharacter = `([A-Za-z0-9._~!$&'()*+,;=:@-]|${percent})`;
const tail = `(\\?(${pathCharacter}|[/?])*)?(#(${pathCharacter}|[/?])*)?`;
const path = `(/${pathCharacter}*)*`;
const authority = `${label}(\\.${label})*(:[0-9]{1,5})?`;
const pointer = "(/([^~/]|~[01])*)*";

/** Addresses with one `::`: so many groups before it and so many behind, eight in all at the most less one. */
const ipv6 = [
  `(${group}:){7}${group}`,
  ...Array.from({ length: 7 }, (_, before) => {
    const head = before === 0 ? "" : `${group}(:${group}){${before - 1}}`;
    const behind = 6 - before;
    return `${head}::(${group}(:${group}){0,${behind}})?`.replace("(:[0-9a-fA-F]{1,4}){0,0}", "");
  }),
  `${group}(:${group}){6}::`,
].join("|");

const patterns: Record<string, string> = {
  date,
  time,
  "date-time": `${date}T${time}`,
  // RFC 3339, appendix A.
  duration:
    "P([0-9]{1,9}W|([0-9]{1,9}Y([0-9]{1,9}M([0-9]{1,9}D)?)?|[0-9]{1,9}M([0-9]{1,9}D)?|[0-9]{1,9}D)(T([0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?|[0-9]{1,9}M([0-9]{1,9}S)?|[0-9]{1,9}S))?|T([0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?|[0-9]{1,9}M([0-9]{1,9}S)?|[0-9]{1,9}S))",
  uuid: "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
  ipv4,
  ipv6,
  hostname: `${label}(\\.${label}){0,3}`,
  email: `[A-Za-z0-9_+-]{1,20}(\\.[A-Za-z0-9_+-]{1,20}){0,2}@${label}(\\.${label}){1,2}`,
  uri: `(https?|ftp|file|wss?)://${authority}${path}${tail}|(urn|mailto|tel|data):${pathCharacter}+`,
  "uri-reference": `((https?|ftp|file|wss?)://${authority}${path}|/?${pathCharacter}+${path})${tail}`,
  "json-pointer": pointer,
  "relative-json-pointer": `(0|[1-9][0-9]{0,8})(#|${pointer})`,
  byte: "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",
};
const aliases: Record<string, string> = {
  iri: "uri",
  url: "uri",
  "iri-reference": "uri-reference",
  "idn-email": "email",
  "idn-hostname": "hostname",
  base64: "byte",
  "ip-address": "ipv4",
};
/** Formats that say how a string is meant or kept, not how it is written. */
const meanings: ReadonlySet<string> = new Set(["password", "binary", "string", "text", "textarea", "multiline"]);

/**
 * A regular expression of texts that have the format; "" when it asks for nothing; null when it is not known. It may
 * leave out rare forms (leap seconds, quoted e-mail names, addresses that end in IPv4): nothing else comes through.
 */
export function formatPattern(format: string): string | null {
  if (meanings.has(format)) return "";
  const pattern = patterns[aliases[format] ?? format];
  return pattern === undefined ? null : `^(${pattern})$`;
}
