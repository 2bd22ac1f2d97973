import { type Call, tooLarge } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";

/** What llhttp lets pass although two readers could take it for two different requests; and a body that is too large by its own word. */
export function framingProblem(rawHeaders: readonly string[], call: Call, bodyLimit: number): ApiError | undefined {
  let hosts = 0;
  let authorization: string | undefined;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string;
    if (name.length === 4 && name.toLowerCase() === "host") hosts++;
    else if (name.length === 13 && name.toLowerCase() === "authorization") {
      // Node keeps the first; another reader might take the last.
      if (authorization !== undefined && authorization !== rawHeaders[index + 1])
        return new ApiError("invalid_request", "the request has two different Authorization headers");
      authorization = rawHeaders[index + 1];
    }
  }
  if (hosts > 1) return new ApiError("invalid_request", "the request has more than one Host header");
  const coding = call.headers["transfer-encoding"];
  if (coding !== undefined && coding.toLowerCase() !== "chunked") {
    return new ApiError("invalid_request", "the request's transfer-encoding is not chunked");
  }
  if (!call.path.startsWith("/")) return new ApiError("invalid_request", "the request's target is not a path");
  if (Number(call.headers["content-length"] ?? 0) > bodyLimit) return tooLarge(bodyLimit);
  return undefined;
}
