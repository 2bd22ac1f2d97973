import type { Headers } from "../../core/call.ts";

/** Longest block of headers as on the wire, and the longest list that one may unfold to, in bytes. */
export const largestHeaderBlock = 64 * 1024;
export const largestHeaderList = 128 * 1024;

const pseudoNames = [":method", ":scheme", ":authority", ":path", ":status"];
/** They belong to one connection of HTTP/1.1 and make a message malformed (RFC 9113, 8.2.2). */
const connectionNames = ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"];

/** What is wrong with a header's name; undefined when nothing is. */
export function problemOfName(name: string): string | undefined {
  if (name.startsWith(":")) return pseudoNames.includes(name) ? undefined : `an unknown pseudo-header ${name}`;
  if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name)) return "a header's name with characters that none may have";
  return connectionNames.includes(name) ? `the header ${name}, which belongs to a single connection` : undefined;
}

/** Whether a header's value has no character that could end it early, nor any that HTTP/1.1 does not know. */
export function isValue(value: string): boolean {
  return !/[^\t\x20-\x7e\x80-\xff]/.test(value) && !isBlank(value, 0) && !isBlank(value, value.length - 1);
}

/** Whether a blank stands there. */
function isBlank(value: string, at: number): boolean {
  const code = value.charCodeAt(at);
  return code === 32 || code === 9;
}

/** What is wrong with a request's head; undefined when nothing is. */
export function problemOfRequest(headers: Headers): string | undefined {
  if (!headers[":method"]) return "a request without :method";
  if (!headers[":path"]) return "a request without :path";
  if (!headers[":scheme"]) return "a request without :scheme";
  if (headers[":status"] !== undefined) return "a request with :status";
  if (headers.te !== undefined && headers.te !== "trailers") return "a request with a te that HTTP/2 does not know";
  return problemOfLength(headers);
}

/** What is wrong with a response's head; undefined when nothing is. */
export function problemOfResponse(headers: Headers): string | undefined {
  if (!/^[1-9]\d\d$/.test(headers[":status"] ?? "") || headers[":status"] === "101")
    return "a response without a status";
  if (headers[":method"] !== undefined || headers[":path"] !== undefined) return "a response with a request's headers";
  return problemOfLength(headers);
}

/** Announced bytes of the body, or -1. */
export function contentLength(headers: Headers): number {
  const text = headers["content-length"];
  return text === undefined ? -1 : Number(text);
}

function problemOfLength(headers: Headers): string | undefined {
  const text = headers["content-length"];
  return text === undefined || /^\d{1,15}$/.test(text) ? undefined : "a content-length that is no number";
}
