import { ApiError } from "../core/errors.ts";
import type { Json } from "../core/json.ts";
import { LineSplitter } from "./sse.ts";

/**
 * Bytes of newline-delimited JSON (`application/x-ndjson`, as Ollama streams) → its values, however the bytes are
 * split. Empty lines are skipped, a last line without its end is read. Throws `upstream_error` for a line that is no
 * JSON (such as one cut short) or is longer than `limit` UTF-16 units.
 */
export async function* parseNdjson(bytes: AsyncIterable<Uint8Array>, limit?: number): AsyncGenerator<Json> {
  const lines = new LineSplitter(limit);
  for await (const chunk of bytes) {
    for (const line of lines.push(chunk)) if (line.trim() !== "") yield parseLine(line);
  }
  for (const line of lines.end()) if (line.trim() !== "") yield parseLine(line);
}

function parseLine(line: string): Json {
  try {
    return JSON.parse(line) as Json;
  } catch {
    throw new ApiError("upstream_error", `the upstream sent a line that is not valid JSON (${line.length} characters)`);
  }
}
