import type { ChatEvent } from "../core/chat.ts";
import type { ChoiceEvent } from "./dialect.ts";

/**
 * Several answers at work at once → their events as they come, numbered. The first failure ends all: `stop` is called,
 * and every source is left. Progress of all but the first is left out: they wait in the same queue.
 */
export function fanOut(sources: readonly AsyncIterable<ChatEvent>[], stop: () => void): AsyncIterable<ChoiceEvent> {
  const [only] = sources;
  return sources.length === 1 && only !== undefined ? single(only) : merge(sources, stop);
}

async function* single(source: AsyncIterable<ChatEvent>): AsyncGenerator<ChoiceEvent> {
  for await (const event of source) yield { choice: 0, event };
}

interface Pulled {
  readonly choice: number;
  readonly step: IteratorResult<ChatEvent>;
}

async function* merge(sources: readonly AsyncIterable<ChatEvent>[], stop: () => void): AsyncGenerator<ChoiceEvent> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const pull = async (choice: number): Promise<Pulled> => {
    const iterator = iterators[choice];
    return { choice, step: iterator === undefined ? { done: true, value: undefined } : await iterator.next() };
  };
  const pulls = new Map(iterators.map((_, choice) => [choice, pull(choice)]));
  try {
    while (pulls.size > 0) {
      const { choice, step } = await Promise.race(pulls.values());
      if (step.done === true) {
        pulls.delete(choice);
        continue;
      }
      // To the back of the map: a race of ready promises is won by the first, and no answer may starve another.
      pulls.delete(choice);
      pulls.set(choice, pull(choice));
      if (choice === 0 || step.value.type !== "progress") yield { choice, event: step.value };
    }
  } finally {
    for (const pending of pulls.values()) pending.catch(() => undefined);
    if (pulls.size > 0) stop();
    for (const iterator of iterators) void iterator.return?.().then(undefined, () => undefined);
  }
}
