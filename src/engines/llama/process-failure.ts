import { ApiError } from "../../core/errors.ts";
import type { ChildMessage } from "./messages.ts";

export type ProcessState = "stopped" | "starting" | "ready" | "stopping";

/** How a model's process ended, without being asked to. */
export interface ProcessEnd {
  /** Name of the model file. */
  readonly file: string;
  /** What it was at when it ended. */
  readonly state: ProcessState;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The telling lines of its log, or "". */
  readonly cause: string;
  readonly loadFailure: (ChildMessage & { type: "load-failed" }) | null;
}

/** Exit code of a failure of our own code in the child process. */
export const ownFailure = 70;

/** What the requests of that process are told. */
export function toFailure(end: ProcessEnd): ApiError {
  const { file, code, signal, loadFailure } = end;
  const because = end.cause === "" ? "" : `: ${end.cause}`;
  if (loadFailure?.reason === "library") return new ApiError("unsupported_capability", loadFailure.message);
  if (loadFailure?.reason === "memory") {
    const message = `${loadFailure.message} for ${file}${because}; set a smaller context length`;
    return new ApiError("insufficient_memory", message);
  }
  if (loadFailure !== null) return new ApiError("invalid_model_file", `cannot load the model file ${file}${because}`);
  if (code === ownFailure) return new ApiError("engine_crashed", `the process of ${file} failed${because}`);
  const how = signal === null ? `with exit code ${code}` : `by ${signal}`;
  if (end.state !== "starting") {
    return new ApiError(
      "engine_crashed",
      `llama.cpp ended ${how} while it ran ${file}${because}; the next request loads it anew`,
    );
  }
  // The kernel kills what takes too much; llama.cpp aborts on a file that it does not survive.
  if (signal === "SIGKILL") {
    const message = `llama.cpp was killed while it loaded ${file}, most likely for want of memory`;
    return new ApiError("insufficient_memory", message);
  }
  return new ApiError("invalid_model_file", `llama.cpp ended ${how} while it loaded the model file ${file}${because}`);
}
