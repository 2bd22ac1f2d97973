import { chargeText, TemplateError } from "./budget.ts";
import { type Arguments, asNumber, toRepresentation, toText, Tuple, typeName, type Value } from "./values.ts";

/** `str.format`: `{}`, `{0}`, `{name}`, with `!r` and the commonest of formats (`{:>8}`, `{:03d}`, `{:.2f}`). */
export function formatBraces(self: string, given: Arguments): string {
  let next = 0;
  const made = self.replace(
    /\{\{|\}\}|\{(\w*)(![rs])?(?::([^{}]*))?\}|[{}]/g,
    (whole, field?: string, conversion?: string, form?: string) => {
      if (whole === "{{" || whole === "}}") return whole.charAt(0);
      if (field === undefined) throw new TemplateError("format: a brace stands alone");
      const position = field === "" ? next++ : Number(field);
      const value = Number.isInteger(position) ? given.positional[position] : given.named.get(field);
      const known = Number.isInteger(position) ? position < given.positional.length : given.named.has(field);
      if (!known) throw new TemplateError(`format: there is nothing for {${field}}`);
      const plain = conversion === "!r" ? toRepresentation(value) : value;
      const text = form === undefined || form === "" ? toText(plain) : applyForm(plain, form);
      chargeText(text.length);
      return text;
    },
  );
  chargeText(made.length);
  return made;
}

/** `"…%s…" % value`: a tuple fills several places. */
export function formatPercent(self: string, value: Value): string {
  const values = value instanceof Tuple ? [...value] : [value];
  const dict = value instanceof Map ? value : null;
  let next = 0;
  const made = self.replace(
    /%(?:\((\w+)\))?([-+ 0#]{0,5})(\d{0,9})(?:\.(\d{1,9}))?([sdifrxX%])/g,
    (...found: (string | undefined)[]) => {
      const [, name, flags = "", width = "", precision, kind = ""] = found;
      if (kind === "%") return "%";
      const one = name === undefined ? values[next++] : dict?.get(name);
      if (name === undefined && next > values.length) throw new TemplateError("there are more % than values");
      const align = flags.includes("-") ? "<" : ">";
      const zero = flags.includes("0") ? "0" : "";
      const sign = flags.includes("+") ? "+" : "";
      if (kind === "s" || kind === "r") {
        return applyForm(kind === "r" ? toRepresentation(one) : toText(one), `${align}${width}`);
      }
      const type = kind === "i" ? "d" : kind;
      return applyForm(
        one,
        `${zero === "" ? align : ""}${sign}${zero}${width}${precision === undefined ? "" : `.${precision}`}${type}`,
      );
    },
  );
  chargeText(made.length);
  return made;
}

function applyForm(value: Value, form: string): string {
  const parsed = /^(?:([\s\S])?([<>^]))?([+-])?(0)?(\d*)(,)?(?:\.(\d+))?([sdfgxX%]?)$/.exec(form);
  if (parsed === null) throw new TemplateError(`format: ${JSON.stringify(form)} is not understood`);
  const [, fill, align, sign, zero, width = "", comma, precision, kind = ""] = parsed;
  const size = Number(width);
  chargeText(size);
  const number = asNumber(value);
  const text = number === undefined ? toText(value) : formatNumber(value, number, { kind, precision, comma });
  const signed = sign === "+" && number !== undefined && number >= 0 ? `+${text}` : text;
  if (zero !== undefined && align === undefined && number !== undefined) {
    const negative = /^[+-]/.exec(signed)?.[0] ?? "";
    return negative + signed.slice(negative.length).padStart(size - negative.length, "0");
  }
  const side = align ?? (number === undefined ? "<" : ">");
  const blank = fill ?? " ";
  if (side === "<") return signed.padEnd(size, blank);
  if (side === ">") return signed.padStart(size, blank);
  return signed.padStart(signed.length + Math.floor(Math.max(0, size - signed.length) / 2), blank).padEnd(size, blank);
}

function formatNumber(
  value: Value,
  number: number,
  form: { readonly kind: string; readonly precision: string | undefined; readonly comma: string | undefined },
): string {
  const digits = form.precision === undefined ? 6 : Math.min(100, Number(form.precision));
  const grouped = (text: string): string =>
    form.comma === undefined ? text : text.replace(/\B(?=(?:\d{3})+(?!\d))/g, ",");
  switch (form.kind) {
    case "d":
      return grouped(String(Math.trunc(number)));
    case "f":
      return grouped(number.toFixed(digits));
    case "%":
      return `${(number * 100).toFixed(digits)}%`;
    case "x":
      return Math.trunc(number).toString(16);
    case "X":
      return Math.trunc(number).toString(16).toUpperCase();
    case "":
      return form.precision === undefined
        ? grouped(toText(value))
        : String(Number(number.toPrecision(Math.max(1, digits))));
  }
  throw new TemplateError(`format: ${typeName(value)} cannot be written as ${form.kind}`);
}

const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

/** `datetime.strftime` in the C locale; directives that it does not know stay as they are. */
export function formatTime(moment: Date, form: string): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = days[moment.getDay()] ?? "";
  const month = months[moment.getMonth()] ?? "";
  const hour = moment.getHours();
  const parts: Readonly<Record<string, () => string>> = {
    Y: () => String(moment.getFullYear()),
    y: () => two(moment.getFullYear() % 100),
    m: () => two(moment.getMonth() + 1),
    d: () => two(moment.getDate()),
    e: () => String(moment.getDate()).padStart(2, " "),
    B: () => month,
    b: () => month.slice(0, 3),
    h: () => month.slice(0, 3),
    A: () => day,
    a: () => day.slice(0, 3),
    H: () => two(hour),
    I: () => two(hour % 12 || 12),
    p: () => (hour < 12 ? "AM" : "PM"),
    M: () => two(moment.getMinutes()),
    S: () => two(moment.getSeconds()),
    f: () => `${String(moment.getMilliseconds()).padStart(3, "0")}000`,
    j: () => String(dayOfYear(moment)).padStart(3, "0"),
    w: () => String(moment.getDay()),
    u: () => String(moment.getDay() || 7),
    F: () => formatTime(moment, "%Y-%m-%d"),
    T: () => formatTime(moment, "%H:%M:%S"),
    D: () => formatTime(moment, "%m/%d/%y"),
    R: () => formatTime(moment, "%H:%M"),
    Z: () => "",
    z: () => "",
    n: () => "\n",
    t: () => "\t",
    "%": () => "%",
  };
  chargeText(form.length * 10);
  return form.replace(/%(-?)([A-Za-z%])/g, (whole, short: string, letter: string) => {
    if (!Object.hasOwn(parts, letter)) return whole;
    const text = parts[letter]?.() ?? "";
    return short === "" ? text : text.replace(/^[0 ]+(?=.)/, "");
  });
}

function dayOfYear(moment: Date): number {
  const start = Date.UTC(moment.getFullYear(), 0, 1);
  return Math.round((Date.UTC(moment.getFullYear(), moment.getMonth(), moment.getDate()) - start) / 86_400_000) + 1;
}
