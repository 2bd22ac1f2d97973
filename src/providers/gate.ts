import { whenReplyIsOver } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { type Provider, stockOf } from "../core/provider.ts";

/** Lets so many in at a time; the others wait in the order of their coming. */
export class Gate {
  readonly #limit: number;
  readonly #waiting: (() => void)[] = [];
  #inside = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many would be served before one who comes now and cannot enter at once. */
  get ahead(): number {
    return this.#waiting.length;
  }

  get full(): boolean {
    return this.#inside >= this.#limit;
  }

  /** Resolves with what lets the next one in; calling it again does nothing. Throws `client_closed_request`. */
  async enter(signal: AbortSignal): Promise<() => void> {
    if (signal.aborted) throw gone();
    if (this.full) await this.#wait(signal);
    else this.#inside++;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      const next = this.#waiting.shift();
      // The place is handed over: nobody can slip in between.
      if (next === undefined) this.#inside--;
      else next();
    };
  }

  #wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(gone());
      };
      this.#waiting.push(enter);
      signal.addEventListener("abort", leave, { once: true });
    });
  }
}

/** The provider with at most `limit` calls at a time; one lasts until its reply's body is over. */
export function limited(provider: Provider, limit: number): Provider {
  const gate = new Gate(limit);
  return {
    ...delegate(provider),
    async handle(call) {
      const leave = await gate.enter(call.signal);
      try {
        return whenReplyIsOver(await provider.handle(call), leave);
      } catch (error) {
        leave();
        throw error;
      }
    },
  };
}

/** A provider's parts, bound to it, to put another in place of some. */
export function delegate(provider: Provider): Provider {
  const { name, kind, speaks } = provider;
  return {
    name,
    kind,
    speaks,
    handle: (call) => provider.handle(call),
    models: (signal) => provider.models(signal),
    health: (signal) => provider.health(signal),
    close: () => provider.close(),
    ...stockOf(provider),
  };
}

function gone(): ApiError {
  return new ApiError("client_closed_request", "the client closed the connection");
}
