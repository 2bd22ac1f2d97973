import type { ChatEvent } from "../core/chat.ts";
import type { ChoiceEvent } from "./dialect.ts";

/**
 * Several answers at work at once → their events as they come, numbered. The first failure is that of all, and every
 * source is left. Progress of all but the first is left out: they wait in the same queue.
 */
export function fanOut(sources: readonly AsyncIterable<ChatEvent>[]): AsyncIterable<ChoiceEvent> {
  const [only] = sources;
  return sources.length === 1 && only !== undefined ? single(only) : merge(sources);
}

async function* single(source: AsyncIterable<ChatEvent>): AsyncGenerator<ChoiceEvent> {
  for await (const event of source) yield { choice: 0, event };
}

type Pulled =
  | { readonly choice: number; readonly step: IteratorResult<ChatEvent> }
  | { readonly choice: number; readonly failure: unknown };

/** One pull of each source is under way; what has come waits in a queue, so that no answer starves another. */
async function* merge(sources: readonly AsyncIterable<ChatEvent>[]): AsyncGenerator<ChoiceEvent> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const ready: Pulled[] = [];
  let wake: (() => void) | undefined;
  const arrive = (pulled: Pulled): void => {
    ready.push(pulled);
    wake?.();
  };
  const pull = (choice: number): void => {
    void iterators[choice]?.next().then(
      (step) => arrive({ choice, step }),
      (failure: unknown) => arrive({ choice, failure }),
    );
  };
  try {
    for (const choice of iterators.keys()) pull(choice);
    for (let open = iterators.length; open > 0;) {
      const pulled = ready.shift();
      if (pulled === undefined) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      if ("failure" in pulled) throw pulled.failure;
      const { choice, step } = pulled;
      if (step.done === true) {
        open--;
        continue;
      }
      pull(choice);
      if (choice === 0 || step.value.type !== "progress") yield { choice, event: step.value };
    }
  } finally {
    for (const iterator of iterators) void iterator.return?.().then(undefined, () => undefined);
  }
}
