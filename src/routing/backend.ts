import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Health, Provider } from "../core/provider.ts";
import type { UpstreamState } from "../core/upstream-state.ts";
import { Breaker, type Passage, type Trouble } from "./breaker.ts";
import { ModelList } from "./model-list.ts";

export interface BackendSettings {
  readonly provider: Provider;
  /** Its share of the calls among those that have the same model, > 0. */
  readonly weight: number;
  /** Milliseconds that it may take to list its models or to tell how it is. */
  readonly probeTimeout: number;
  readonly log: Log;
  readonly clock: Clock;
}

/** Milliseconds between health checks, less or more by a fifth, so that many gateways do not ask at once. */
const checkPause = 10_000;
const jitter = 0.2;
/** While it gets no calls: that it is back is noticed at once. */
const openPause = 1000;
/** Checks in a row that must fail. */
const mostFailed = 3;
/** Milliseconds after which its models are asked for anew in the background. */
const listAge = 30_000;
/** Longest that an upstream's own word keeps calls away, in milliseconds. */
const longestAvoidance = 60_000;

/** One upstream: its models, how it is, and what was sent to it. */
export class Backend {
  readonly provider: Provider;
  readonly weight: number;
  readonly list: ModelList;
  readonly breaker: Breaker;
  healthy = true;
  calls = 0;
  failures = 0;
  passedOn = 0;
  lastFailure: UpstreamState["lastFailure"] = null;
  #inFlight = 0;
  #avoidedUntil = 0;
  #failedChecks = 0;
  readonly #settings: BackendSettings;
  #stopTimer: () => void = () => undefined;
  #closed = false;

  constructor(settings: BackendSettings) {
    const { provider, weight, probeTimeout, clock } = settings;
    this.#settings = settings;
    this.provider = provider;
    this.weight = weight;
    this.list = new ModelList(provider, probeTimeout, clock);
    this.breaker = new Breaker(clock, () => this.#circuitChanged());
  }

  get name(): string {
    return this.provider.name;
  }

  /** Others are preferred now, for it has asked to be left alone. */
  get avoided(): boolean {
    const left = this.#avoidedUntil - this.#settings.clock.now();
    return left > 0 && left <= longestAvoidance;
  }

  /** Asks for its models, and looks after it from now on until `close`. */
  start(): void {
    void this.list.refresh();
    this.#schedule();
  }

  close(): void {
    this.#closed = true;
    this.#stopTimer();
  }

  /** A call goes to it; the result is called when that is over. */
  begin(): () => void {
    this.calls++;
    this.#inFlight++;
    let over = false;
    return () => {
      if (!over) this.#inFlight--;
      over = true;
    };
  }

  /** A call failed by its fault. */
  fail(passage: Passage, trouble: Trouble, message: string): void {
    this.failures++;
    this.lastFailure = { at: this.#settings.clock.now(), message };
    passage.fail(trouble);
  }

  /** It asks to be left alone for so many seconds. */
  avoid(seconds: number): void {
    this.#avoidedUntil = this.#settings.clock.now() + Math.min(longestAvoidance, seconds * 1000);
  }

  /** Asks how it is. Never throws. */
  async check(): Promise<void> {
    const health = await this.#ask();
    if (this.#closed) return;
    if (health.ok) {
      this.#failedChecks = 0;
      if (!this.healthy) this.#settings.log.info({ upstream: this.name }, "an upstream is well again");
      this.healthy = true;
      this.breaker.answered();
      await this.list.refresh(this.list.failed ? 0 : listAge);
      return;
    }
    if (++this.#failedChecks < mostFailed || !this.healthy) return;
    this.healthy = false;
    this.#settings.log.warn(
      { upstream: this.name, detail: health.detail },
      "an upstream does not answer, and is chosen last",
    );
  }

  state(): UpstreamState {
    const { breaker, provider, weight, healthy, calls, failures, passedOn, lastFailure } = this;
    return {
      name: provider.name,
      kind: provider.kind,
      weight,
      healthy,
      circuit: breaker.circuit,
      since: breaker.since,
      retryAt: breaker.retryAt ?? null,
      avoidedUntil: this.avoided ? this.#avoidedUntil : null,
      lastFailure,
      inFlight: this.#inFlight,
      calls,
      failures,
      passedOn,
      models: this.list.models.map(({ id }) => id),
    };
  }

  async #ask(): Promise<Health> {
    const signal = AbortSignal.timeout(this.#settings.probeTimeout);
    const late = new Promise<Health>((resolve) =>
      signal.addEventListener("abort", () => resolve({ ok: false, detail: "it did not answer in time" }), {
        once: true,
      }),
    );
    return Promise.race([this.provider.health(signal), late]);
  }

  #circuitChanged(): void {
    const { log } = this.#settings;
    if (this.breaker.circuit === "closed") log.info({ upstream: this.name }, "an upstream gets calls again");
    else
      log.warn(
        { upstream: this.name, failure: this.lastFailure?.message },
        "an upstream fails again and again, and gets no calls for a while",
      );
    this.#schedule();
  }

  #schedule(): void {
    this.#stopTimer();
    if (this.#closed) return;
    const { clock } = this.#settings;
    const pause = this.breaker.circuit === "closed" ? checkPause : openPause;
    this.#stopTimer = clock.after(pause * (1 - jitter + 2 * jitter * clock.random()), () => {
      void this.check().finally(() => this.#schedule());
    });
  }
}
