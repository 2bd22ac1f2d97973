import { type CallerLimits, type Principal, type Role, roles } from "../core/access.ts";
import type { Call, Handler, Middleware, Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { toLimitKey } from "../core/ip-address.ts";
import type { Json } from "../core/json.ts";
import type { Log } from "../core/log.ts";
import { logText } from "../core/log-text.ts";
import { cleanBody, mayHoldCredential, noText, takeFromBody, UnprovenBodies } from "./body-credentials.ts";
import { callerAddress } from "./caller-address.ts";
import { differing, onlyCredential, takeCredentials } from "./credentials.ts";
import { GuessLimit } from "./guess-limit.ts";
import { digestOf } from "./issue.ts";
import type { KeyRing } from "./key-ring.ts";
import { StaticTokens } from "./static-tokens.ts";

export interface AccessSettings {
  /** Configured tokens of callers: they may use models. */
  readonly tokens: readonly string[];
  /** Configured tokens with every role. */
  readonly adminTokens: readonly string[];
  /** The managed keys, where there is a state. */
  readonly ring?: KeyRing | undefined;
  /** For callers without limits of their own. */
  readonly callerLimits: CallerLimits;
  /** Fronts whose `X-Forwarded-For` is believed: addresses and CIDR ranges, e.g. `10.0.0.0/8`. Default: none. */
  readonly trustedProxies?: readonly string[];
  readonly log: Log;
}

/**
 * Finds out who calls, and lets in who may ask for the path: `/health`, `/ready` and `/api/hello` anybody, `/metrics` the roles
 * `metrics` and `admin`, `/admin/…` and what changes the models that there are `admin`, everything else `inference`. Without any token or key everybody may, until
 * the first key is there. No credential goes on in the call, whoever sent it and in whatever form.
 *
 * Throws `invalid_api_key` (the same for unknown, expired and revoked keys), `invalid_request`, `insufficient_scope`, and
 * `rate_limit_exceeded` to an address that guesses. Creating it throws `Error` for a front that is no address.
 */
export function access(settings: AccessSettings): Middleware {
  const desk = new Desk(settings);
  return (call, next: Handler) => {
    const looking = desk.identify(call);
    return looking === undefined ? next(call) : goOn(looking, call, next);
  };
}

async function goOn(looking: Promise<void>, call: Call, next: Handler): Promise<Reply> {
  await looking;
  return next(call);
}

/** Paths that tell nothing worth a key: load balancers ask them, and Claude Code before it has one. */
function isOpen(path: string): boolean {
  return path === "/health" || path === "/ready" || path === "/api/hello";
}

/** Texts from this length on are taken for random ones, which nobody can guess: their owners need not wait for those who do. */
const leastUnguessable = 20;

class Desk {
  /** Who calls while nobody is asked for a key. It could be any program of this machine: `/admin/keys` lets it change nothing. */
  readonly #anybody: Principal;
  readonly #settings: AccessSettings;
  readonly #tokens: StaticTokens;
  readonly #addressOf: (call: Call) => string;
  readonly #guesses = new GuessLimit();
  readonly #bodies = new UnprovenBodies();
  readonly #limited = new WeakMap<Principal, Principal>();
  readonly #hasDefaults: boolean;

  constructor(settings: AccessSettings) {
    const { tokens, adminTokens, callerLimits, trustedProxies = [] } = settings;
    this.#settings = settings;
    this.#tokens = new StaticTokens(tokens, adminTokens, callerLimits);
    this.#addressOf = callerAddress(trustedProxies);
    this.#hasDefaults = Object.keys(callerLimits).length > 0;
    this.#anybody = { id: "", name: "", roles: new Set(roles), limits: callerLimits };
  }

  /** Whether nobody is asked for a key. */
  get open(): boolean {
    return this.#tokens.size === 0 && (this.#settings.ring?.size ?? 0) === 0;
  }

  /** Lets the call in, without its credentials. A promise where its body must be looked at. */
  identify(call: Call): Promise<void> | undefined {
    const shown = takeCredentials(call);
    if (isOpen(call.path)) return undefined;
    const inBody = mayHoldCredential(call);
    if (this.open) {
      call.principal = this.#anybody;
      return inBody ? cleanBody(call, () => undefined) : undefined;
    }
    const credential = onlyCredential(shown);
    if (credential === undefined) {
      if (!inBody) throw missing();
      return this.#admitByBody(call);
    }
    this.#admit(call, credential);
    if (!inBody) return undefined;
    return cleanBody(call, (found) => {
      if (textOf(found) !== undefined && found !== credential) throw differing();
    });
  }

  #admit(call: Call, credential: string): void {
    const wait = this.#guesses.size === 0 ? 0 : this.#guesses.wait(this.#limitKey(call));
    if (wait > 0 && credential.length < leastUnguessable) throw guessing(wait);
    const principal = this.#find(credential);
    if (principal === undefined) throw wait > 0 ? guessing(wait) : this.#refuse(call);
    checkRole(principal, call);
    call.principal = principal;
  }

  #refuse(call: Call): ApiError {
    const address = this.#limitKey(call);
    if (this.#guesses.add(address))
      this.#settings.log.warn(
        { address, path: logText(call.path) },
        "many wrong keys come from this address: it has to wait",
      );
    return new ApiError("invalid_api_key", "the key that was sent is not valid here");
  }

  #limitKey(call: Call): string {
    return toLimitKey(this.#addressOf(call));
  }

  async #admitByBody(call: Call): Promise<void> {
    const credential = await this.#bodies.find(call);
    if (credential === undefined) throw missing();
    this.#admit(call, credential);
    await takeFromBody(call, (found) => {
      const text = textOf(found);
      if (text !== undefined && text !== credential) throw differing();
    });
  }

  /** The same work whoever it is: one hash, every token compared, one look among the keys. */
  #find(credential: string): Principal | undefined {
    const digest = digestOf(credential);
    const token = this.#tokens.find(digest);
    const key = this.#settings.ring?.find(digest, Date.now());
    return token ?? (key === undefined || !this.#hasDefaults ? key : this.#withLimits(key));
  }

  #withLimits(principal: Principal): Principal {
    if (Object.keys(principal.limits).length > 0) return principal;
    const known = this.#limited.get(principal);
    if (known !== undefined) return known;
    const limited = { ...principal, limits: this.#settings.callerLimits };
    this.#limited.set(principal, limited);
    return limited;
  }
}

/** What a body has under a credential's name: undefined when it is empty. */
function textOf(found: Json): string | undefined {
  if (typeof found !== "string") throw noText();
  return found === "" ? undefined : found;
}

function checkRole(principal: Principal, { method, path }: Call): void {
  const needed = rolesFor(path);
  if (needed.some((role) => principal.roles.has(role))) return;
  throw new ApiError(
    "insufficient_scope",
    `this key may not ask for ${method} ${path.slice(0, 200)}: it needs the role ${needed.join(" or ")}, and has ${[...principal.roles].join(", ") || "none"}`,
  );
}

const forMetrics: readonly Role[] = ["metrics", "admin"];
const forAdmin: readonly Role[] = ["admin"];
const forModels: readonly Role[] = ["inference"];

function rolesFor(path: string): readonly Role[] {
  if (path === "/metrics" || path === "/metrics/") return forMetrics;
  return isAdministration(path) ? forAdmin : forModels;
}

/** Whether a path rules over the server instead of asking its models: `/admin/…`, and what Ollama's API has to fetch and delete them. */
export function isAdministration(path: string): boolean {
  return /^\/(?:admin|api\/(?:pull|delete|create|copy|push|blobs))(?:\/|$)/.test(path);
}

function missing(): ApiError {
  return new ApiError("invalid_api_key", "no key was sent: send it as `Authorization: Bearer <key>`");
}

function guessing(wait: number): ApiError {
  return new ApiError(
    "rate_limit_exceeded",
    "too many wrong keys have come from this address; wait before the next one, and check the key that is sent",
    { retryAfter: wait },
  );
}
