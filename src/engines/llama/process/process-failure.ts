import { ApiError } from "../../../core/errors.ts";
import type { ChildMessage } from "../messages.ts";

export type ProcessState = "stopped" | "starting" | "ready" | "stopping";

/** How a model's process ended, without being asked to. */
export interface ProcessEnd {
  /** Name of the model file. */
  readonly file: string;
  /** What it was at when it ended. */
  readonly state: ProcessState;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Why we ended it ourselves; null: we did not. */
  readonly killed: string | null;
  /** Whether the kernel killed a process for want of memory meanwhile; null: it does not tell. */
  readonly outOfMemory: boolean | null;
  /** The telling lines of its log, or "". */
  readonly cause: string;
  readonly loadFailure: (ChildMessage & { type: "load-failed" }) | null;
}

/** Exit code of a failure of our own code in the child process. */
export const ownFailure = 70;

/** Said by the C++ library, ggml's backends, glibc and V8 when an allocation fails. */
const wantOfMemory =
  /bad_alloc|out of memory|failed to allocate|unable to allocate|cannot allocate|OutOfDeviceMemory|OutOfHostMemory|insufficient memory/i;

/** What the requests of that process are told. */
export function toFailure(end: ProcessEnd): ApiError {
  const { file, code, loadFailure, cause } = end;
  const because = cause === "" ? "" : `: ${cause}`;
  const anew = "the next request loads it anew";
  if (end.killed !== null) {
    return new ApiError("engine_crashed", `llama.cpp was ended while it ran ${file}: ${end.killed}; ${anew}`);
  }
  if (loadFailure?.reason === "library") return new ApiError("unsupported_capability", loadFailure.message);
  if (loadFailure?.reason === "memory" || (loadFailure !== null && wantOfMemory.test(cause))) {
    const message = `${loadFailure.message} for ${file}${because}; set a smaller context length`;
    return new ApiError("insufficient_memory", message);
  }
  if (loadFailure !== null) return new ApiError("invalid_model_file", `cannot load the model file ${file}${because}`);
  // 1 is Node's own: llama.cpp returns, aborts or crashes.
  if (code === ownFailure || code === 1)
    return new ApiError("engine_crashed", `the process of ${file} failed${because}; ${anew}`);
  const doing = end.state === "starting" ? `loaded the model file ${file}` : `ran ${file}`;
  const message = `llama.cpp ended ${describeExit(end)} while it ${doing}${because}`;
  if (isWantOfMemory(end)) {
    return new ApiError("insufficient_memory", `${message}; set a smaller context length, or free memory`);
  }
  if (end.state !== "starting") return new ApiError("engine_crashed", `${message}; ${anew}`);
  // llama.cpp aborts on a file that it does not survive; whoever kills from outside means no judgement of it.
  const outside = ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"].includes(end.signal ?? "");
  return new ApiError(outside ? "engine_crashed" : "invalid_model_file", message);
}

function isWantOfMemory(end: ProcessEnd): boolean {
  if (wantOfMemory.test(end.cause) || windowsExits.get(unsigned(end.code))?.memory === true) return true;
  // Where the kernel tells nothing (macOS), a load that is killed was most likely too large.
  return end.signal === "SIGKILL" && (end.outOfMemory ?? end.state === "starting");
}

/** Signals as their cause is most often found. */
const signals: Partial<Record<NodeJS.Signals, string>> = {
  SIGSEGV: "an access to memory that is not its own",
  SIGBUS: "the file was cut or its disk failed while it was mapped",
  SIGILL: "an instruction that this processor does not have",
  SIGFPE: "an impossible arithmetic operation",
  SIGABRT: "it gave up by itself",
};

/** Exit codes of Windows that stand for what signals say elsewhere (ntstatus.h). */
const windowsExits = new Map<number, { readonly name: string; readonly memory?: true }>([
  [3, { name: "abort: it gave up by itself" }],
  [0xc0000005, { name: "access violation: an access to memory that is not its own" }],
  [0xc0000006, { name: "in-page error: the file was cut or its disk failed while it was mapped" }],
  [0xc0000017, { name: "no memory", memory: true }],
  [0xc000001d, { name: "illegal instruction: one that this processor does not have" }],
  [0xc0000094, { name: "division by zero" }],
  [0xc00000fd, { name: "stack overflow" }],
  [0xc000012d, { name: "commitment limit: no memory", memory: true }],
  [0xc0000135, { name: "a DLL that it needs was not found" }],
  [0xc0000374, { name: "heap corruption" }],
  [0xc0000409, { name: "fail fast: it gave up by itself" }],
]);

function describeExit({ code, signal, outOfMemory }: ProcessEnd): string {
  if (signal === "SIGKILL") {
    if (outOfMemory === true) return "by SIGKILL (the kernel was out of memory)";
    return outOfMemory === false ? "by SIGKILL from outside" : "by SIGKILL (out of memory, or from outside)";
  }
  if (signal !== null) return `by ${signal}${signal in signals ? ` (${signals[signal]})` : ""}`;
  const named = windowsExits.get(unsigned(code));
  // 3 is Windows' abort() alone; elsewhere it is no more than a number.
  if (named === undefined || (code === 3 && process.platform !== "win32")) return `with exit code ${code}`;
  return `with exit code ${code === 3 ? 3 : `0x${unsigned(code).toString(16).toUpperCase()}`} (${named.name})`;
}

/** Node gives Windows' exit codes as they are or negative. */
function unsigned(code: number | null): number {
  return code === null ? -1 : code >>> 0;
}
