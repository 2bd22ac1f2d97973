import { ApiError } from "../core/errors.ts";
import type { Json, JsonObject } from "../core/json.ts";
import type { ResponseStore } from "../state/state.ts";
import { decodeKept, encodeKept, idOf, type KeptResponse, lengthWith, outputOf } from "./kept-response.ts";

/** Turns that one turn points back at; the next one holds the whole conversation again. */
const mostTurns = 32;
/**
 * Turns live longer than they can be fetched, by this part of their lifetime, and are no longer pointed at when they are
 * this old: whatever can be fetched has all that it goes on from.
 */
const slack = 0.25;
/** What ids of responses and of their items may look like; any other is nobody's. */
const idPattern = /^[A-Za-z0-9_-]{1,128}$/;
/** No caller has this id: for what the processes tell each other. */
const processes = "/";

/**
 * The responses that are kept, of every principal its own. A turn is kept with its own input and points at those before
 * it, so that a long conversation takes as much room as it has text, and a copy of it every 32 turns.
 */
export class Archive {
  readonly #store: ResponseStore;
  readonly #lifetime: number;

  /** `lifetime`: milliseconds for which a response can be fetched. */
  constructor(store: ResponseStore, lifetime: number) {
    this.#store = store;
    this.#lifetime = lifetime;
  }

  /** Undefined: there is none of this id, or not of this principal. */
  async find(principal: string, id: string): Promise<KeptResponse | undefined> {
    const kept = await this.#read(principal, id);
    return kept === undefined || kept.deleted === true || kept.until <= Date.now() ? undefined : kept;
  }

  /**
   * A response to `items` that goes on from `previous`, whose whole conversation is `history`. It is not kept yet. Throws
   * `request_too_large` for a conversation that is too long to be kept.
   */
  continue(
    response: JsonObject,
    items: readonly JsonObject[],
    previous?: { readonly kept: KeptResponse; readonly history: readonly JsonObject[] },
  ): KeptResponse {
    const now = Date.now();
    const until = now + this.#lifetime;
    if (previous === undefined) return { response, items, turns: [], before: 0, since: now, until };
    const { kept, history } = previous;
    const turns = [...kept.turns, idOf(kept)];
    const before = lengthWith(kept);
    if (turns.length <= mostTurns && now - kept.since < this.#lifetime * slack)
      return { response, items, turns, before, since: kept.since, until };
    return { response, items: [...history, ...items], turns: [], before: 0, since: now, until };
  }

  /** Keeps it, in place of what was kept under its id. Throws `StateError`. */
  async keep(principal: string, kept: KeptResponse): Promise<void> {
    const id = idOf(kept);
    const before = kept.turns.at(-1);
    const notes = outputOf(kept).map(({ id: item }) =>
      typeof item === "string" && idPattern.test(item) ? this.#note(principal, `item/${item}`, id) : undefined,
    );
    if (before !== undefined) notes.push(this.#note(principal, `next/${before}`, id));
    await Promise.all([...notes, this.#note(principal, id, encodeKept(kept))]);
  }

  /**
   * Deletes it; false: there was none. What others go on from stays a part of them: only it itself is gone then, and its
   * items are with the last of those that need them, at the end of their lifetimes.
   */
  async remove(principal: string, id: string): Promise<boolean> {
    const kept = await this.find(principal, id);
    if (kept === undefined) return false;
    const items = outputOf(kept).map((item) => item["id"]);
    const notes = items.map((item) =>
      typeof item === "string" && idPattern.test(item) ? this.#store.delete(principal, `item/${item}`) : undefined,
    );
    await Promise.all([...notes, this.#store.delete(principal, `events/${id}`)]);
    if ((await this.#store.get(principal, `next/${id}`)) === undefined) return this.#store.delete(principal, id);
    const rest = { ...kept, response: { id, output: outputOf(kept) }, deleted: true };
    const lifetime = kept.until - Date.now() + this.#lifetime * slack;
    await this.#store.put(principal, id, encodeKept(rest), lifetime);
    return true;
  }

  /** All that was asked up to it, in its order, without what it answered. Throws `previous_response_not_found`. */
  async inputOf(principal: string, kept: KeptResponse): Promise<JsonObject[]> {
    const turns = await Promise.all(kept.turns.map((turn) => this.#read(principal, turn)));
    const items = turns.flatMap((turn) => {
      if (turn === undefined) throw previousNotFound(idOf(kept), "a turn that it goes on from has expired");
      return [...turn.items, ...outputOf(turn)];
    });
    return [...items, ...kept.items];
  }

  /** Those of the items with these ids that a kept response has said. */
  async findItems(principal: string, ids: readonly string[]): Promise<ReadonlyMap<string, JsonObject>> {
    const sought = new Set(ids.filter((id) => idPattern.test(id)));
    const places = await Promise.all([...sought].map((id) => this.#store.get(principal, `item/${id}`)));
    const responses = new Set(places.filter((place) => place !== undefined));
    const kept = await Promise.all([...responses].map((id) => this.find(principal, id)));
    const items = kept.flatMap((one) => (one === undefined ? [] : outputOf(one)));
    return new Map(items.map((item) => [String(item["id"]), item] as const).filter(([id]) => sought.has(id)));
  }

  /** Keeps the events that a response was told by, or reads them. */
  async keepEvents(principal: string, id: string, events: string): Promise<void> {
    await this.#note(principal, `events/${id}`, events);
  }

  readEvents(principal: string, id: string): Promise<string | undefined> {
    return this.#store.get(principal, `events/${id}`);
  }

  /** Says for so many milliseconds that this process is there. */
  async appear(owner: string, lifetime: number): Promise<void> {
    await this.#store.put(processes, owner, "1", lifetime);
  }

  /** This process is gone from now on. */
  async disappear(owner: string): Promise<void> {
    await this.#store.delete(processes, owner);
  }

  async isThere(owner: string): Promise<boolean> {
    return (await this.#store.get(processes, owner)) !== undefined;
  }

  /** Asks whoever is at work on the response to give it up. */
  async askToCancel(principal: string, id: string): Promise<void> {
    await this.#note(principal, `cancel/${id}`, "1");
  }

  async isAskedToCancel(principal: string, id: string): Promise<boolean> {
    return (await this.#store.get(principal, `cancel/${id}`)) !== undefined;
  }

  async #read(principal: string, id: string): Promise<KeptResponse | undefined> {
    const text = idPattern.test(id) ? await this.#store.get(principal, id) : undefined;
    return text === undefined ? undefined : decodeKept(text);
  }

  #note(principal: string, id: string, text: string): Promise<void> {
    return this.#store.put(principal, id, text, this.#lifetime * (1 + slack));
  }
}

/** What the Responses API says of a `previous_response_id` that is not there. */
export function previousNotFound(id: Json, why = "it has expired, was not stored, or is another key's"): ApiError {
  const name = typeof id === "string" ? id.slice(0, 100) : String(id);
  return new ApiError(
    "previous_response_not_found",
    `Previous response with id '${name}' not found: ${why}; send the whole conversation as \`input\``,
    { param: "previous_response_id" },
  );
}
