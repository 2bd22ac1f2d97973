import { checkModel } from "../access/allowed-models.ts";
import type { Principal } from "../core/access.ts";
import { isStream, toBytes } from "../core/bytes.ts";
import type { Call, Handler, Middleware, Reply } from "../core/call.ts";
import type { Demand, TokenCount } from "../core/demand.ts";
import { type ApiError, type ErrorCode, toApiError } from "../core/errors.ts";
import type { Endpoint } from "../core/provider.ts";
import { endpointOf, readDemand } from "../dialects/demand.ts";
import type { Limiter, Reservation } from "../limits/limiter.ts";
import type { UsageRecord } from "../state/state.ts";
import type { AnswerText } from "./answer-text.ts";
import { AnswerReader, counted, type Ending, nothing, toTokenCount } from "./counting.ts";
import type { Journal } from "./journal.ts";
import type { Prices } from "./prices.ts";

export interface AccountingSettings {
  readonly limiter?: Limiter;
  readonly journal?: Journal;
  readonly prices: Prices;
  /** How many tokens the call's model makes of a text; asked afterwards, about answers of which no usage was told. */
  readonly tokenize?: (call: Call, text: string) => Promise<number | undefined>;
  /** Whether what was said goes into the records. */
  readonly capture: boolean;
  /** Told of every record, once, when its numbers stand. */
  readonly onRecord?: (record: UsageRecord) => void;
  /** Told of every call that was refused here, and why. */
  readonly onRefusal?: (code: ErrorCode) => void;
}

/** Bytes of a request, and of a reply, that are kept where `capture` is on. */
const mostContent = 64 * 1024;
/** Characters of a model's name that a record holds. */
const longestName = 200;

/**
 * Holds callers to their limits and writes down what each call has used: exactly one record for each, however it ends,
 * in the journal before the last of its answer goes to the client. Calls that ask no model pass.
 */
export function accounting(settings: AccountingSettings): Middleware {
  return (call, next: Handler) => {
    const endpoint = endpointOf(call);
    return endpoint === undefined ? next(call) : account(new OpenCall(settings, call, endpoint), next);
  };
}

async function account(open: OpenCall, next: Handler): Promise<Reply> {
  try {
    open.demand = open.call.demand ?? (await readDemand(open.call)) ?? open.demand;
    checkModel(open.call.principal, open.demand.model);
    const reserved = open.reserve();
    if (reserved !== undefined) open.reservation = reserved instanceof Promise ? await reserved : reserved;
    open.admitted = true;
    return open.count(await next(open.call));
  } catch (error) {
    open.fail(toApiError(error));
    throw error;
  }
}

const nobody: Principal = { id: "", name: "", roles: new Set(), limits: {} };

/** One call under way, until its record is made. */
class OpenCall {
  readonly call: Call;
  /** Of a call whose body says nothing: its kind alone. */
  demand: Demand;
  reservation: Reservation | undefined;
  /** Whether it was let through, to whoever answers it. */
  admitted = false;
  /** Who failed, where the failure says so. */
  provider: string | undefined;
  readonly #settings: AccountingSettings;
  readonly #time = Date.now();
  readonly #began = performance.now();
  #reply: Reply | undefined;
  #reader: AnswerReader | undefined;

  constructor(settings: AccountingSettings, call: Call, endpoint: Endpoint) {
    this.#settings = settings;
    this.call = call;
    this.demand = unread(endpoint);
  }

  /** Throws, or rejects, with why the call may not go on. */
  reserve(): Reservation | Promise<Reservation> | undefined {
    const { limiter, prices } = this.#settings;
    const principal = this.call.principal ?? nobody;
    return limiter?.reserve(principal, this.demand, prices.most(this.demand));
  }

  /** The reply as it is to go on. */
  count(reply: Reply): Reply {
    this.#reply = reply;
    const streamed = (reply.headers["content-type"] ?? "").startsWith("text/event-stream");
    const { capture, tokenize } = this.#settings;
    this.#reader = new AnswerReader(this.call.path, streamed, capture || tokenize !== undefined);
    const passed = counted(reply, this.#reader, (ending) => this.#end(ending));
    const { reservation } = this;
    return reservation === undefined ? passed : { ...passed, headers: { ...passed.headers, ...reservation.headers } };
  }

  /** There is no reply, but this. */
  fail(error: ApiError): void {
    const left = this.call.leaving.aborted || error.code === "client_closed_request";
    this.provider = error.provider;
    const asked = error.status >= 500 || this.call.target !== undefined || error.provider !== undefined;
    const refused = !left && !(this.admitted && asked);
    if (refused) this.#settings.onRefusal?.(error.code);
    // Whoever leaves before the answer has still made somebody read the prompt.
    const used = left && this.admitted ? toTokenCount(this.demand, undefined, 0) : nothing;
    this.#close(left ? 499 : error.status, left ? "left" : refused ? "refused" : "failed", used);
  }

  #end(ending: Ending): void {
    const { status = 0, body = null } = this.#reply ?? {};
    // What breaks once the client is gone breaks because it is gone.
    const gone = this.call.leaving.aborted && (ending === "failed" || !isStream(body));
    const outcome = status >= 400 ? "failed" : gone ? "left" : ending;
    const reader = this.#reader as AnswerReader;
    const used = status >= 400 ? nothing : toTokenCount(this.demand, reader.told(ending), reader.text.estimate());
    this.#close(status, outcome, used);
  }

  #close(status: number, outcome: UsageRecord["outcome"], used: TokenCount): void {
    const { journal, onRecord, prices } = this.#settings;
    const record = this.#toRecord(status, outcome, used);
    this.reservation?.settle({ tokens: used.promptTokens + used.completionTokens, spend: record.spend });
    // The end of a stream goes out at once, whole answers with all others of this turn.
    if (isStream(this.#reply?.body ?? null)) journal?.append(record);
    else journal?.appendInTurn(record);
    const text = this.#reader?.text;
    if (used.counted !== "estimated" || text === undefined || text.length === 0) return onRecord?.(record);
    void this.#tokenize(text).then((completionTokens) => {
      if (completionTokens === undefined) return onRecord?.(record);
      const counted = { ...used, completionTokens, counted: "tokenized" as const };
      const exact = { ...record, ...counted, spend: prices.spend(record.model, counted) };
      journal?.replace(record, exact);
      onRecord?.(exact);
    });
  }

  /** Undefined: nobody can tell. */
  async #tokenize(text: AnswerText): Promise<number | undefined> {
    try {
      const tokens = await this.#settings.tokenize?.(this.call, text.text());
      return tokens === undefined ? undefined : Math.round(tokens * text.scale);
    } catch {
      return undefined;
    }
  }

  #toRecord(status: number, outcome: UsageRecord["outcome"], used: TokenCount): UsageRecord {
    const { call, demand } = this;
    const { headers = {} } = this.#reply ?? {};
    const began = this.#reader?.began ?? 0;
    const record = {
      id: call.id,
      time: this.#time,
      key: call.principal?.id ?? "",
      path: call.path.slice(0, longestName),
      model: demand.model.slice(0, longestName),
      provider: this.provider ?? call.target?.provider.name ?? headers["x-lair-target"]?.split("/", 1)[0] ?? "",
      agent: (headers["x-lair-agent"] ?? "").slice(0, longestName),
      promptTokens: used.promptTokens,
      cachedTokens: used.cachedTokens,
      completionTokens: used.completionTokens,
      counted: used.counted,
      spend: this.#settings.prices.spend(demand.model, used),
      firstToken: began === 0 || status >= 400 ? null : rounded(began - this.#began),
      duration: rounded(performance.now() - this.#began),
      bytesIn: Buffer.isBuffer(call.body) ? call.body.length : 0,
      bytesOut: this.#reader?.bytes ?? 0,
      status,
      outcome,
    };
    return this.#settings.capture ? { ...record, content: this.#content() } : record;
  }

  #content(): { request: string; reply: string } {
    const { body } = this.call;
    const request = Buffer.isBuffer(body) ? body.toString("utf8", 0, mostContent) : "";
    const reply = this.#reply?.body ?? "";
    if (isStream(reply)) return { request, reply: this.#reader?.text.text() ?? "" };
    const bytes = toBytes(reply, this.#reply?.encoding);
    return { request, reply: bytes.toString("utf8", 0, mostContent) };
  }
}

/** What is known of a call whose body is not read, by its path. */
function unread(endpoint: Endpoint): Demand {
  let demand = unreadDemands.get(endpoint);
  if (demand === undefined) {
    demand = { endpoint, model: "", streamed: false, promptTokens: 0, outputTokens: 0, tools: false, images: false };
    unreadDemands.set(endpoint, demand);
  }
  return demand;
}

const unreadDemands = new Map<Endpoint, Demand>();

/** Tenths of a millisecond. */
function rounded(milliseconds: number): number {
  return Math.round(milliseconds * 10) / 10;
}
