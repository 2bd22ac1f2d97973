import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import type { ConnectError, Origin } from "../../net/connect.ts";
import type { Answer } from "./answer.ts";
import { NotHttp } from "./ask-upgrade.ts";

/** The relay itself has answered, with an HTTP status and a reason. */
export class DialRefused extends Error {
  readonly status: number;
  /** Of `ApiError`, e.g. `invalid_api_key`; "" where there is none. */
  readonly code: string;
  /** Seconds. */
  readonly retryAfter?: number;

  constructor(status: number, message: string, more: { readonly code?: string; readonly retryAfter?: number } = {}) {
    super(message);
    this.name = "DialRefused";
    this.status = status;
    this.code = more.code ?? "";
    if (more.retryAfter !== undefined) this.retryAfter = more.retryAfter;
  }
}

/** Something between the agent and the relay, or in its place, did not let the request for another protocol pass. */
export class FrontRefused extends Error {}

/** Marks every answer of a relay to a request for a tunnel; its value is the relay's version. */
export const relayHeader = "lair-relay";

/** Where a dial goes, for sentences. */
export interface DialPlace {
  readonly origin: Origin;
  /** The relay's URL without a trailing slash. */
  readonly url: string;
  /** The path in it, e.g. `/lair`, or "". */
  readonly basePath: string;
  readonly proxy: string | undefined;
}

/** An answer that is no tunnel, as the error that it means. */
export function toRefusal(answer: Answer, place: DialPlace): Error {
  const { status, headers } = answer;
  if (headers[relayHeader] !== undefined) return toDialRefused(answer, place);
  if (status >= 300 && status < 400 && headers.location !== undefined)
    return new Error(
      `${place.url} redirects to ${redirectTarget(headers.location, place)}; redirects are not followed: give the relay's own address`,
    );
  if (/plain HTTP|HTTP request to an HTTPS/i.test(answer.body))
    return new Error(`${place.url} speaks TLS: write https:// instead of http://`);
  return new FrontRefused(`it answers ${status}${hintOf(answer)}`);
}

/** A failure before any answer, as a sentence that says what failed where and what to do. */
export function toDialError(error: Error, place: DialPlace): Error {
  const { code = "", atProxy } = error as ConnectError;
  if (error instanceof NotHttp || code.startsWith("HPE_")) {
    const hint =
      error instanceof NotHttp && error.tls
        ? "it speaks TLS: write https:// instead of http://"
        : "what listens there is no relay";
    return new Error(`${place.url} does not answer in HTTP: ${hint}`);
  }
  if (code === "EPROXY" || atProxy === true) return new Error(proxyProblem(error, place), { cause: error });
  const host = `${place.origin.hostname}:${place.origin.port}`;
  const told = tlsProblem(code, error, place) ?? networkProblem(code, host, place);
  return new Error(told ?? `cannot reach the relay at ${host}: ${error.message || code}`, { cause: error });
}

/** Whether the connection was cut after the request, which fronts do that do not know its protocol. */
export function isCut(error: Error): boolean {
  const { code = "" } = error as NodeJS.ErrnoException;
  return code === "ECONNRESET" || code === "EPIPE";
}

function toDialRefused({ status, headers, body }: Answer, place: DialPlace): DialRefused {
  const error = errorOf(body);
  const seconds = Number(headers["retry-after"] ?? NaN);
  const message = typeof error["message"] === "string" ? printable(error["message"]) : `status ${status}`;
  return new DialRefused(status, `the relay ${place.url} refuses: ${message}`, {
    ...(typeof error["code"] === "string" ? { code: printable(error["code"]) } : {}),
    ...(Number.isFinite(seconds) && seconds >= 0 ? { retryAfter: Math.min(seconds, 3600) } : {}),
  });
}

function errorOf(body: string): JsonObject {
  try {
    const json = JSON.parse(Buffer.from(body, "latin1").toString("utf8")) as Json;
    return isObject(json) && isObject(json.error) ? json.error : {};
  } catch {
    return {};
  }
}

/** Of a text from outside, what may go onto a terminal. */
function printable(text: string): string {
  return text.replaceAll(/\p{C}/gu, " ").slice(0, 500);
}

function redirectTarget(location: string, { url }: DialPlace): string {
  try {
    return printable(new URL(location, `${url}/`).origin);
  } catch {
    return "somewhere that is no URL";
  }
}

function hintOf({ status, headers, body }: Answer): string {
  const server = headers.server === undefined ? "" : ` (${printable(headers.server).slice(0, 40)})`;
  if (status === 200 && /<html/i.test(body)) return `${server} with a web page`;
  return server;
}

function proxyProblem(error: Error, { proxy = "", origin }: DialPlace): string {
  const { host } = new URL(proxy);
  const { code = "", atProxy } = error as ConnectError;
  if (atProxy !== true) return `${error.message}: proxy ${host}, asked for ${origin.hostname}:${origin.port}`;
  return `cannot reach the proxy ${host} (${code || error.message}); the environment's https_proxy and http_proxy name it`;
}

function networkProblem(code: string, host: string, { origin }: DialPlace): string | undefined {
  switch (code) {
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `cannot find the relay's host ${origin.hostname} (${code}): check the name, and this machine's DNS`;
    case "ECONNREFUSED":
      return `nothing listens at ${host} (${code}): is lair cloud running there, and the port right?`;
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return `there is no way to ${host} (${code}): is this machine online?`;
    case "ECONNRESET":
    case "EPIPE":
      return `${host} closes the connection without an answer${origin.secure ? "" : ": if it speaks TLS, write https://"}`;
    default:
      return undefined;
  }
}

/** Codes of OpenSSL and node, https://nodejs.org/api/tls.html#x509-certificate-error-codes. */
function tlsProblem(code: string, error: Error, { origin }: DialPlace): string | undefined {
  const host = `${origin.hostname}:${origin.port}`;
  if (/SELF_SIGNED|UNABLE_TO_|CERT_UNTRUSTED|CERT_CHAIN|CERT_SIGNATURE/.test(code))
    return `the TLS certificate of ${host} is of no authority known here (${code}): name its authority's file with --tls-ca`;
  if (code === "CERT_HAS_EXPIRED") return `the TLS certificate of ${host} has expired: renew it at the relay`;
  if (code === "CERT_NOT_YET_VALID")
    return `the TLS certificate of ${host} is not valid yet: check this machine's clock`;
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
    return `the TLS certificate of ${host} is for another name: ${printable(error.message).slice(0, 300)}`;
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH|^EPROTO$|HTTP_REQUEST/.test(code))
    return `${host} does not speak TLS: write http:// instead of https://, or the port of its TLS`;
  if (/CERTIFICATE_REQUIRED|ALERT_BAD_CERTIFICATE|ALERT_UNKNOWN_CA|HANDSHAKE_FAILURE/.test(code))
    return `${host} wants another client certificate (${code}): --tls-cert and --tls-key name one`;
  if (/^ERR_OSSL|PEM|KEY_VALUES_MISMATCH/.test(code))
    return `the agent's TLS files cannot be used (${code}): --tls-ca, --tls-cert and --tls-key must be PEM that belong together`;
  return undefined;
}
