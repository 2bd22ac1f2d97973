import { ApiError } from "./errors.ts";
import type { JsonObject } from "./json.ts";

/** Characters; the longest that are in use, paths on a disk behind a provider's name, stay below 300. */
const longest = 1000;

/** Throws `invalid_value` for a text that is longer than a model's name may be: it would be compared and kept. */
export function checkModelName(name: string): void {
  if (name.length > longest)
    throw new ApiError("invalid_value", `model is longer than the ${longest} characters that a name may have`, {
      param: "model",
    });
}

/** What a call is told that has to name a model, and names none. */
export function missingModel(): ApiError {
  return new ApiError("missing_required_parameter", "model is missing: name one that GET /v1/models lists", {
    param: "model",
  });
}

/**
 * Throws `invalid_value` for a body with `Model` or the like in it: servers in Go take that for `model`, and so would
 * answer with another model than the one that was looked at here. `key`: as the model is called there.
 */
export function checkModelKey(body: JsonObject, key: "model" | "name" = "model"): void {
  for (const other in body)
    if (other.length === key.length && other !== key && other.toLowerCase() === key)
      throw new ApiError("invalid_value", `the request body has ${JSON.stringify(other)}; write it ${key}, and once`, {
        param: key,
      });
}
