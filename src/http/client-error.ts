import type { Socket } from "node:net";
import { errorReply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { encodeWholeReply } from "../wire/whole-reply.ts";

/** Milliseconds that whoever was refused gets to close the connection, which nobody else watches any more. */
const longestGoodbye = 2000;

/** Answers a request that is no HTTP, or too slow, or too big in its head: node has no reply object for it. */
export function refuse(error: NodeJS.ErrnoException, socket: Socket): void {
  // A connection whose TLS has failed carries no answer.
  if (/^(ECONNRESET$|EPROTO$|ERR_SSL_|ERR_TLS_)/.test(error.code ?? "") || !socket.writable) {
    socket.destroy();
    return;
  }
  const known = toClientError(error.code);
  socket.end(encodeWholeReply(errorReply(known), known.code), "latin1");
  const timer = setTimeout(() => socket.destroy(), longestGoodbye);
  socket.on("close", () => clearTimeout(timer));
}

function toClientError(code: string | undefined): ApiError {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new ApiError("headers_too_large", "the request's headers are too large");
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new ApiError("request_timeout", "the request did not arrive in time");
    default:
      return new ApiError("invalid_request", "this is not a valid HTTP/1.1 request");
  }
}
