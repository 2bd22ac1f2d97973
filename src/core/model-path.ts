import { ApiError } from "./errors.ts";

const prefix = "/v1/models/";

/** The model that a path `/v1/models/{name}` asks for. Throws `invalid_value`. */
export function modelInPath(path: string): string {
  try {
    return decodeURIComponent(path.slice(prefix.length));
  } catch {
    throw new ApiError("invalid_value", "the model's name in the path is not validly percent-encoded", {
      param: "model",
    });
  }
}
