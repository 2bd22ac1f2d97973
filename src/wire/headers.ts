import type { Headers } from "../core/call.ts";

/** The head of every event stream. `x-accel-buffering` keeps nginx from holding events back. */
export const eventStreamHeaders: Headers = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
};

/** The head of Ollama's streams: one JSON value on each line. */
export const linesHeaders: Headers = { ...eventStreamHeaders, "content-type": "application/x-ndjson" };
