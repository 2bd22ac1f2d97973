import { modelsFolder } from "./config/folders.ts";
import type { Config } from "./config/schema.ts";
import { ApiError } from "./core/errors.ts";
import type { ModelStock, PullProgress } from "./core/provider.ts";
import { parseReference, type Reference, ReferenceError } from "./hub/reference.ts";
import { HubError } from "./hub/transport.ts";
import { Gate } from "./providers/gate.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** What callers may change of the embedded engine's models: as `lair pull` and `lair rm` do, in the same folder. `unload` takes a model out of memory. */
export function folderStock(config: Config, env: Env, unload: (model: string) => Promise<void>): ModelStock {
  // Two pulls of one model would write the same file.
  const gate = new Gate(1);
  return {
    async *pullModel(name, signal) {
      const reference = toReference(name);
      yield { status: "pulling manifest" };
      const leave = await gate.enter(signal);
      try {
        yield* pull(reference, env, signal);
      } finally {
        leave();
      }
    },
    async deleteModel(name) {
      const { findStored, removeStored } = await import("./model-store.ts");
      const model = await findStored(name, config, env);
      if (model === undefined)
        throw new ApiError("model_not_found", `there is no model ${name.slice(0, 200)}`, { param: "model" });
      if (!model.pulled)
        throw new ApiError(
          "invalid_request",
          `${model.id} was not fetched by \`lair pull\` or /api/pull: its file belongs to whoever put it there`,
          { param: "model" },
        );
      await unload(model.id);
      await removeStored(model, env);
    },
  };
}

/** Callers name a repository of a hub; an address of their own choice, which could be one of this network, they cannot name. */
function toReference(name: string): Reference {
  const text = name.replace(/^(?:https:\/\/)?(?:hf\.co|huggingface\.co)\//i, "hf:");
  try {
    const reference = parseReference(text);
    if (reference.kind === "repository" && !/(?:^|\/)\.{1,2}(?:\/|$)/.test(reference.repository)) return reference;
  } catch (error) {
    if (!(error instanceof ReferenceError)) throw error;
  }
  throw new ApiError(
    "invalid_value",
    `${JSON.stringify(name.slice(0, 200))} names no model that can be fetched here: write hf:user/repo, hf:user/repo:Q8_0 or ms:user/repo`,
    { param: "model" },
  );
}

async function* pull(reference: Reference, env: Env, signal: AbortSignal): AsyncGenerator<PullProgress> {
  const { pullModel } = await import("./model-store.ts");
  const news = new News();
  const pulling = pullModel(reference, {
    folder: modelsFolder({ env }),
    env,
    signal,
    onProgress: ({ file, phase, done, total }) =>
      news.tell({
        status: `${phase === "verify" ? "verifying" : "pulling"} ${file}`,
        digest: file,
        total,
        completed: done,
      }),
  });
  const ended = pulling.then(
    () => news.end(),
    () => news.end(),
  );
  for (let one = await news.next(); one !== undefined; one = await news.next()) yield one;
  await ended;
  try {
    await pulling;
  } catch (error) {
    if (error instanceof HubError) throw new ApiError("upstream_error", error.message, { cause: error });
    throw error;
  }
}

/** The last thing that was told and not yet heard: who listens seldom misses only what is out of date. */
class News {
  #last: PullProgress | undefined;
  #ended = false;
  #wake: (() => void) | undefined;

  tell(progress: PullProgress): void {
    this.#last = progress;
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** Undefined: there will be no more. */
  async next(): Promise<PullProgress | undefined> {
    if (this.#last === undefined && !this.#ended) await new Promise<void>((resolve) => (this.#wake = resolve));
    const news = this.#last;
    this.#last = undefined;
    return news;
  }
}
