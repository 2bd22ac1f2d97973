import { toApiError } from "../../core/errors.ts";
import type { PullProgress } from "../../core/provider.ts";
import type { Frames } from "../dialect.ts";

/** What a pull says on its way, as lines of JSON, the last of which is `success` or an error; a failure is then thrown on. */
export function encodePull(progress: AsyncIterable<PullProgress>): Frames {
  const last = { line: lineOf({ status: "pulling manifest" }) };
  const lines = writeLines(progress, last);
  return { [Symbol.asyncIterator]: () => lines, heartbeat: () => last.line };
}

async function* writeLines(progress: AsyncIterable<PullProgress>, last: { line: string }): AsyncGenerator<string> {
  try {
    for await (const one of progress) {
      last.line = lineOf(one);
      yield last.line;
    }
    yield lineOf({ status: "success" });
  } catch (thrown) {
    yield `${JSON.stringify({ error: toApiError(thrown).message })}\n`;
    throw thrown;
  }
}

function lineOf(progress: PullProgress): string {
  return `${JSON.stringify(progress)}\n`;
}
