import { ApiError, toApiError } from "../../../core/errors.ts";
import type { Log } from "../../../core/log.ts";
import type { MemoryBudget } from "./memory-budget.ts";
import { formatBytes, type MemoryEstimate, memoryAdvice } from "./memory-estimate.ts";
import type { Supervisor } from "../process/supervisor.ts";

/** A model that is in memory or may come there. */
export interface Resident {
  readonly supervisor: Pick<Supervisor, "id" | "state" | "busy" | "lastUsed" | "lease" | "stop"> & {
    ensureReady(): Promise<unknown>;
  };
  readonly needs: MemoryEstimate;
  /** Never unloaded to make room, nor for being unused. */
  readonly pinned: boolean;
  /** Milliseconds that it stays unused where the request does not say; null: until its room is needed. */
  readonly keepAlive: number | null;
}

export interface ResidencyLimits {
  /** Of all models together; asked once, before the first load. */
  readonly budget: () => Promise<MemoryBudget>;
  /** Models at a time; undefined: as many as the bytes allow. */
  readonly count: number | undefined;
  /** Bytes that the machine could give now; null where it cannot tell. */
  readonly available: () => number | null;
}

interface Waiting {
  readonly resident: Resident;
  readonly grant: () => void;
  readonly refuse: (error: ApiError) => void;
}

interface Expiry {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly timer: NodeJS.Timeout;
}

/** The longest time that a timer of Node takes. */
const longestTimer = 2 ** 31 - 1;

/**
 * Which models are in memory, and which must leave for others: the one unused longest first, never a busy or a pinned
 * one. Requests for a model that has to be loaded wait in the order of their arrival, and a model that must leave for
 * the first of them takes no new request, so that a model in steady use does not keep others out for ever.
 */
export class Residency {
  readonly #limits: ResidencyLimits;
  #budget: MemoryBudget | null = null;
  readonly #log: Log;
  readonly #residents = new Set<Resident>();
  readonly #queue: Waiting[] = [];
  /** Busy models that leave for the first in the queue. */
  #leaving: readonly Resident[] = [];
  /** How long each model stays after its present use. */
  readonly #stays = new Map<Resident, number | null>();
  readonly #expiries = new Map<Resident, Expiry>();
  /** Models that leave as soon as they are idle, unless they are asked again. */
  readonly #dismissed = new Map<Resident, string>();
  #serving = false;
  #closed = false;

  constructor(limits: ResidencyLimits, log: Log) {
    this.#limits = limits;
    this.#log = log;
  }

  /**
   * Resolves when the model is in memory or on its way there, and keeps it there until the returned function is called.
   * `keepAlive`: milliseconds that it stays after this use; null: until its room is needed. Throws `ApiError`.
   */
  async hold(resident: Resident, signal: AbortSignal, keepAlive = resident.keepAlive): Promise<() => void> {
    if (this.#closed) throw shuttingDown();
    if (signal.aborted) throw clientLeft();
    if (isIn(resident) && !this.#leaving.includes(resident)) return this.#lease(resident, keepAlive);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        const at = this.#queue.indexOf(waiting);
        if (at !== -1) this.#queue.splice(at, 1);
        reject(clientLeft());
        void this.#serve();
      };
      const done = (): void => signal.removeEventListener("abort", onAbort);
      const waiting: Waiting = {
        resident,
        grant: () => (done(), resolve(this.#lease(resident, keepAlive))),
        refuse: (error) => (done(), reject(error)),
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#queue.push(waiting);
      this.#log.debug({ model: resident.supervisor.id, requests: this.#queue.length }, "waiting for memory");
      void this.#serve();
    });
  }

  /** When the model will be unloaded if nobody uses it, in milliseconds since 1970; undefined: not by time. */
  expiresAt(resident: Resident): number | undefined {
    return this.#expiries.get(resident)?.at;
  }

  /** To be called whenever a model's last request has ended. */
  onIdle(resident: Resident): void {
    const stay = resident.pinned ? null : (this.#stays.get(resident) ?? null);
    const dismissal = this.#dismissed.get(resident);
    if (dismissal !== undefined) void this.#evict(resident, dismissal);
    else if (stay !== null && isIn(resident)) this.#expire(resident, stay);
    void this.#serve();
  }

  /** Unloads a model now or, while it is in use, as soon as it is not. Resolves when it is gone, or will go. */
  async unload(resident: Resident, reason: string): Promise<void> {
    if (!resident.supervisor.busy) return this.#evict(resident, reason);
    this.#dismissed.set(resident, reason);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const waiting of this.#queue.splice(0)) waiting.refuse(shuttingDown());
    for (const resident of this.#expiries.keys()) this.#cancelExpiry(resident);
    await Promise.all([...this.#residents].map(({ supervisor }) => supervisor.stop()));
  }

  #lease(resident: Resident, keepAlive: number | null): () => void {
    this.#cancelExpiry(resident);
    this.#dismissed.delete(resident);
    this.#stays.set(resident, keepAlive);
    return resident.supervisor.lease();
  }

  /** Works the queue off as far as there is room, one after the other. */
  async #serve(): Promise<void> {
    if (this.#serving) return;
    this.#serving = true;
    try {
      for (;;) {
        this.#leaving = [];
        const [first] = this.#queue;
        if (first === undefined) return;
        if (this.#budget === null) this.#budget = await this.#limits.budget();
        else if (!(await this.#serveFirst(first.resident, this.#budget))) return;
      }
    } catch (error) {
      // A bug of ours: nobody may wait for ever because of it.
      for (const waiting of this.#queue.splice(0)) waiting.refuse(toApiError(error));
    } finally {
      this.#serving = false;
    }
  }

  /** Whether anything was done; false: somebody has to end first. */
  async #serveFirst(resident: Resident, budget: MemoryBudget): Promise<boolean> {
    if (isIn(resident)) return this.#grant(resident);
    const victims = this.#victimsFor(resident, budget.bytes);
    if (victims instanceof ApiError) return this.#refuse(resident, victims);
    if (victims.some(({ supervisor }) => supervisor.busy)) {
      this.#leaving = victims;
      return false;
    }
    if (victims.length === 0) {
      this.#start(resident);
      return this.#grant(resident);
    }
    await Promise.all(victims.map((victim) => this.#evict(victim, `room for ${resident.supervisor.id}`)));
    return true;
  }

  #start(resident: Resident): void {
    const { id } = resident.supervisor;
    const available = this.#available();
    const [needed, free] = [resident.needs.total, available ?? Infinity];
    const figures = { model: id, memory: formatBytes(needed) };
    if (needed > free) {
      const message = `only ${formatBytes(free)} of memory are free: the model may be read from the disk over and over`;
      this.#log.warn(figures, message);
    } else this.#log.info(figures, "loading model");
    this.#residents.add(resident);
    // Who asked gets the failure, if there is one.
    resident.supervisor.ensureReady().catch(() => undefined);
  }

  /** Lets in all who wait for the model: they share its load. */
  #grant(resident: Resident): true {
    for (const waiting of this.#take(resident)) waiting.grant();
    return true;
  }

  #refuse(resident: Resident, error: ApiError): true {
    for (const waiting of this.#take(resident)) waiting.refuse(error);
    return true;
  }

  #take(resident: Resident): Waiting[] {
    const taken = this.#queue.filter((waiting) => waiting.resident === resident);
    const others = this.#queue.filter((waiting) => waiting.resident !== resident);
    this.#queue.splice(0, Infinity, ...others);
    return taken;
  }

  /** The models that must leave before the wanted one is loaded; or why that would not help. */
  #victimsFor(wanted: Resident, bytes: number): readonly Resident[] | ApiError {
    const { count = Infinity } = this.#limits;
    const others = [...this.#residents].filter((other) => other !== wanted && other.supervisor.state !== "stopped");
    const victims: Resident[] = others.filter(({ supervisor }) => supervisor.state === "stopping");
    const staying = (): Resident[] => others.filter((other) => !victims.includes(other));
    const fits = (): boolean => staying().length < count && sum(staying()) + wanted.needs.total <= bytes;
    const candidates = staying()
      .filter((other) => !other.pinned)
      .toSorted(
        (a, b) =>
          Number(a.supervisor.busy) - Number(b.supervisor.busy) || a.supervisor.lastUsed - b.supervisor.lastUsed,
      );
    for (const candidate of candidates) {
      if (fits() && this.#leavesFree(wanted, victims)) break;
      // Memory that other programs hold is no reason to wait for a busy model.
      if (fits() && candidate.supervisor.busy) break;
      victims.push(candidate);
    }
    return fits() ? victims : tooLarge(wanted, { bytes, count, pinned: staying() });
  }

  #available(): number | null {
    return this.#budget?.ofGpu === true ? null : this.#limits.available();
  }

  #leavesFree(wanted: Resident, victims: readonly Resident[]): boolean {
    const available = this.#available();
    return available === null || wanted.needs.total <= available + sum(victims);
  }

  #expire(resident: Resident, stay: number): void {
    this.#cancelExpiry(resident);
    const reason = stay === 0 ? "its use has ended" : `unused for ${stay / 1000} s`;
    if (stay === 0) {
      void this.#evict(resident, reason);
      return;
    }
    const timer = setTimeout(() => void this.#evict(resident, reason), Math.min(stay, longestTimer));
    timer.unref();
    this.#expiries.set(resident, { at: Date.now() + stay, timer });
  }

  #cancelExpiry(resident: Resident): void {
    clearTimeout(this.#expiries.get(resident)?.timer);
    this.#expiries.delete(resident);
  }

  async #evict(resident: Resident, reason: string): Promise<void> {
    this.#cancelExpiry(resident);
    const { supervisor } = resident;
    if (isIn(resident)) this.#log.info({ model: supervisor.id, reason }, "unloading model");
    this.#dismissed.delete(resident);
    await supervisor.stop();
    if (supervisor.state === "stopped") this.#residents.delete(resident);
    void this.#serve();
  }
}

/** In memory, or on the way there. */
function isIn({ supervisor }: Resident): boolean {
  return supervisor.state === "ready" || supervisor.state === "starting";
}

function sum(residents: readonly Resident[]): number {
  return residents.reduce((total, { needs }) => total + needs.total, 0);
}

function tooLarge(
  { supervisor, needs }: Resident,
  { bytes, count, pinned }: { bytes: number; count: number; pinned: readonly Resident[] },
): ApiError {
  const names = pinned.map((one) => one.supervisor.id).join(", ");
  if (pinned.length >= count)
    return new ApiError(
      "model_too_large",
      `${supervisor.id} cannot be loaded: at most ${count} models may be in memory (llama.maxLoaded), and ${names} are pinned there`,
    );
  const held = pinned.length === 0 ? "" : `, of which pinned models (${names}) hold ${formatBytes(sum(pinned))}`;
  return new ApiError(
    "model_too_large",
    `${supervisor.id} needs about ${formatBytes(needs.total)} of memory, and models may use ${formatBytes(bytes)}${held}: ${memoryAdvice(needs)}`,
  );
}

function shuttingDown(): ApiError {
  return new ApiError("service_unavailable", "the embedded llama.cpp is shutting down");
}

function clientLeft(): ApiError {
  return new ApiError("client_closed_request", "the client closed the connection");
}
