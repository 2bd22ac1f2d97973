import { agentQuestion } from "../../core/agent-state.ts";
import { isStream, readBytes } from "../../core/bytes.ts";
import { Call, type Handler, type Reply } from "../../core/call.ts";
import { Departure } from "../../core/departure.ts";
import { isObject, type JsonObject } from "../../core/json.ts";
import { parseJson } from "../../core/parse-json.ts";
import type { Clock } from "../../core/clock.ts";

/** What the runtime behind the agent offers. */
export interface Offer {
  /** Whether it answers. */
  readonly ready: boolean;
  /** As it lists them. Those of before while it does not answer. */
  readonly models: readonly JsonObject[];
  /** Why it is not ready. */
  readonly problem?: string;
}

export interface OfferSettings {
  /** Asked for `GET /v1/models`. */
  readonly handler: Handler;
  readonly clock: Clock;
  /** Grows while the runtime answers calls: one that is busy with them may let a question wait. */
  readonly progress: () => number;
  /** Told of the first offer, and of every one that differs from that before. */
  readonly onChange: (offer: Offer, before: Offer | undefined) => void;
}

/** Longer than the runtime itself waits for the lists of its providers (`timeouts.probe`). */
const patience = 5000;
const interval = 10_000;
/** A runtime that is being started is there soon. */
const intervalWhileAway = 2000;
/** What a control message may hold, with room to spare. */
const longestList = 3 * 1024 * 1024;
const mostModels = 2000;

/** Asks the runtime time and again what it offers. */
export class OfferWatch {
  readonly #settings: OfferSettings;
  #offer: Offer | undefined;
  #models = "[]";
  #stopTimer: () => void = () => undefined;
  #asking = false;
  #again = false;
  #stopped = false;
  #leave: () => void = () => undefined;

  constructor(settings: OfferSettings) {
    this.#settings = settings;
  }

  /** Undefined until the runtime has answered, or failed to, for the first time. */
  get offer(): Offer | undefined {
    return this.#offer;
  }

  /** Asks now; while a question is under way, once more after it. */
  ask(): void {
    this.#again = this.#asking;
    if (this.#asking || this.#stopped) return;
    this.#asking = true;
    this.#stopTimer();
    void this.#question().then((offer) => this.#answered(offer));
  }

  stop(): void {
    this.#stopped = true;
    this.#stopTimer();
    this.#leave();
  }

  #answered(offer: Offer): void {
    this.#asking = false;
    if (this.#stopped) return;
    const before = this.#offer;
    const models = JSON.stringify(offer.models);
    if (before === undefined || before.ready !== offer.ready || this.#models !== models) {
      this.#offer = offer;
      this.#models = models;
      this.#settings.onChange(offer, before);
    }
    if (this.#again) return this.ask();
    this.#stopTimer = this.#settings.clock.after(offer.ready ? interval : intervalWhileAway, () => this.ask());
  }

  async #question(): Promise<Offer> {
    const departure = new Departure();
    let late = false;
    const stop = this.#settings.clock.after(patience, () => {
      late = true;
      departure.leave();
    });
    this.#leave = () => departure.leave();
    const before = this.#offer ?? { ready: false, models: [] };
    const progress = this.#settings.progress();
    try {
      return { ready: true, models: await listModels(this.#settings.handler, departure) };
    } catch (error) {
      if (late && before.ready && this.#settings.progress() !== progress) return before;
      const problem = late ? `the runtime has not answered within ${patience / 1000} s` : (error as Error).message;
      return { ready: false, models: before.models, problem };
    } finally {
      stop();
    }
  }
}

async function listModels(handler: Handler, departure: Departure): Promise<JsonObject[]> {
  const call = new Call({
    id: agentQuestion,
    method: "GET",
    path: "/v1/models",
    headers: { accept: "application/json" },
    signal: departure,
  });
  const left = new Promise<never>((_resolve, reject) => {
    departure.addEventListener("abort", () => reject(new Error("given up")));
  });
  // It may come when nobody waits for it any more.
  left.catch(() => undefined);
  const reply = await Promise.race([handler(call), left]);
  if (reply.status !== 200) {
    if (isStream(reply.body)) reply.body.cancel();
    throw new Error(`the runtime answers GET /v1/models with HTTP ${reply.status}`);
  }
  const json = parseJson(await Promise.race([wholeBody(reply), left]));
  if (!isObject(json) || !Array.isArray(json.data)) throw new Error("the runtime answers GET /v1/models with no list");
  const cards = json.data.filter((card): card is JsonObject => isObject(card) && typeof card.id === "string");
  return cards.slice(0, mostModels);
}

async function wholeBody(reply: Reply): Promise<Buffer> {
  const tooLong = (): Error => new Error(`the runtime's list of models is longer than ${longestList} bytes`);
  const bytes = await readBytes(reply, longestList, tooLong);
  if (bytes.length > longestList) throw tooLong();
  return bytes;
}
