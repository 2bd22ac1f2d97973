import { randomBytes } from "node:crypto";
import { type Call, type Handler, jsonReply, type Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";
import type { Log } from "../core/log.ts";
import { eventStreamHeaders } from "../wire/headers.ts";
import type { Archive } from "./archive.ts";
import { BackgroundWork, toResponseError } from "./background-work.ts";
import { type Budget, EventBuffer } from "./event-buffer.ts";
import { idOf, isUnderWay, type KeptResponse } from "./kept-response.ts";

/** Most responses that are made in the background at a time: of one principal, and of all. */
const mostOfOne = 16;
const mostInAll = 128;
/** Bytes of events that are held for readers, of all together. */
const mostEvents = 64 * 1024 * 1024;
/** Milliseconds between two looks at who asks for a cancellation, and for how long a process counts as there after one. */
const lookInterval = 1000;
const presence = 5000;

/** What is to be made. */
export interface BackgroundTask {
  readonly call: Call;
  /** For whoever answers, but for `stream`. */
  readonly body: JsonObject;
  /** As it is told and kept before anything has come. */
  readonly queued: KeptResponse;
  readonly rewrite: (response: JsonObject) => JsonObject;
}

/** Responses that are made while nobody waits for them. */
export class BackgroundResponses {
  readonly #archive: Archive;
  readonly #log: Log;
  /** Names this process in what it keeps. */
  readonly #owner = randomBytes(9).toString("hex");
  /** By principal and id. */
  readonly #works = new Map<string, BackgroundWork>();
  readonly #places = new Map<string, number>();
  readonly #budget: Budget = { left: mostEvents };
  #looking: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(archive: Archive, log: Log) {
    this.#archive = archive;
    this.#log = log;
  }

  /** Begins, and answers at once. Throws `concurrency_limit`, and whatever refuses the call before it is at work. */
  async start(task: BackgroundTask, next: Handler): Promise<Reply> {
    const principal = task.call.principal?.id ?? "";
    this.#takePlace(principal);
    const streamed = task.body["stream"] === true;
    const queued = { ...task.queued, owner: this.#owner, streamed };
    const work = this.#toWork({ ...task, queued }, principal);
    const key = keyOf(principal, idOf(queued));
    this.#works.set(key, work);
    this.#look();
    try {
      // Whoever asks for it right away must find it, and who is at work on it.
      await this.#archive.appear(this.#owner, presence);
      const refusal = await work.begin(next);
      if (refusal === undefined)
        return streamed && work.events !== undefined
          ? { status: 200, headers: eventStreamHeaders, body: work.events.read() }
          : jsonReply(200, queued.response);
      this.#drop(principal, key);
      return refusal;
    } catch (error) {
      await work.forget();
      this.#drop(principal, key);
      throw error;
    }
  }

  /** Undefined: this process is not at work on it. */
  find(principal: string, id: string): BackgroundWork | undefined {
    return this.#works.get(keyOf(principal, id));
  }

  /** As it is: failed when the process that was at work on it is gone. */
  async settle(principal: string, kept: KeptResponse): Promise<KeptResponse> {
    const { owner } = kept;
    if (!isUnderWay(kept) || owner === undefined) return kept;
    if (owner !== this.#owner && (await this.#archive.isThere(owner))) return kept;
    // It may have been finished in between.
    const latest = (await this.#archive.find(principal, idOf(kept))) ?? kept;
    if (!isUnderWay(latest)) return latest;
    const error = toResponseError(new ApiError("service_unavailable", "the server was stopped before it was done"));
    const failed = { ...kept, response: { ...kept.response, status: "failed", error } };
    await this.#archive.keep(principal, failed);
    return failed;
  }

  /** Gives up what is under way, and keeps it as failed. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#looking);
    const stopped = new ApiError("service_unavailable", "the server was stopped before it was done");
    if (this.#works.size === 0) return;
    await Promise.all([...this.#works.values()].map((work) => work.fail(stopped)));
    await this.#archive.disappear(this.#owner).catch(() => undefined);
  }

  #takePlace(principal: string): void {
    if (this.#closed) throw new ApiError("service_unavailable", "the server is being stopped");
    const taken = this.#places.get(principal) ?? 0;
    if (taken >= mostOfOne || this.#works.size >= mostInAll)
      throw new ApiError(
        "concurrency_limit",
        taken >= mostOfOne
          ? `${mostOfOne} responses of this key are made in the background, and no more are allowed at a time`
          : `${mostInAll} responses are made in the background, and no more are allowed at a time`,
        { retryAfter: 10 },
      );
    this.#places.set(principal, taken + 1);
  }

  #toWork(task: BackgroundTask, principal: string): BackgroundWork {
    const { call, body, queued, rewrite } = task;
    const controller = new AbortController();
    const { signal } = controller;
    const id = idOf(queued);
    const warn = (err: unknown): void => this.#log.warn({ id: call.id, err }, "a response could not be kept");
    return new BackgroundWork({
      call: call.with({ json: { ...body, stream: true }, signal }),
      abort: () => controller.abort(),
      queued,
      rewrite,
      events: queued.streamed === true ? new EventBuffer(this.#budget) : undefined,
      keep: (kept) => this.#archive.keep(principal, kept),
      onUnkept: warn,
      onOver: async ({ events, isForgotten }) => {
        const text = isForgotten ? undefined : events?.text();
        if (text !== undefined) await this.#archive.keepEvents(principal, id, text).catch(warn);
        this.#drop(principal, keyOf(principal, id));
      },
    });
  }

  #drop(principal: string, key: string): void {
    if (!this.#works.delete(key)) return;
    const left = (this.#places.get(principal) ?? 1) - 1;
    if (left > 0) this.#places.set(principal, left);
    else this.#places.delete(principal);
    if (this.#works.size > 0) return;
    clearInterval(this.#looking);
    this.#looking = undefined;
  }

  /** As long as there is work, says that this process is there, and looks what others want cancelled. */
  #look(): void {
    this.#looking ??= setInterval(() => {
      const looks = [...this.#works].map(async ([key, work]) => {
        const [principal, id] = JSON.parse(key) as [string, string];
        if (await this.#archive.isAskedToCancel(principal, id)) await work.cancel();
      });
      // A state that is away says so itself.
      void Promise.all([this.#archive.appear(this.#owner, presence), ...looks]).catch(() => undefined);
    }, lookInterval).unref();
  }
}

function keyOf(principal: string, id: string): string {
  return JSON.stringify([principal, id]);
}
