import { type ByteSink, type ByteStream, toBuffer } from "../../core/bytes.ts";
import { type Call, tooLarge } from "../../core/call.ts";
import { ApiError } from "../../core/errors.ts";
import { isObject } from "../../core/json.ts";
import { parseJson } from "../../core/parse-json.ts";
import { ModelScanner } from "../../wire/model-scanner.ts";
import { spliceFields } from "../../wire/splice.ts";
import { contentLength } from "../../wire/onward-headers.ts";

/** Bodies up to this many bytes are held whole, so that they can be sent a second time. */
const mostHeld = 1024 * 1024;

/** A request's body as far as it was read to learn which model it names. */
export interface NamedBody {
  /** Undefined: it names none, or not by a string. */
  readonly model: string | undefined;
  /** The whole body, or its beginning. */
  readonly held: Buffer;
  /** What follows; undefined: nothing does. It can be read once. */
  readonly rest: RestOfBody | undefined;
  /** Offsets of the value of `model` in `held`, quotes included. */
  readonly start: number;
  readonly end: number;
  /** The key stands more than once. */
  readonly repeated: boolean;
}

/**
 * Reads as much of a call's body as it takes to know its model: all of a body up to 1 MB, of a larger one what stands
 * before the name's end. Throws `request_too_large`, or what the body fails with.
 */
export async function readNamedBody(call: Call): Promise<NamedBody> {
  const { body } = call;
  const length = contentLength(call.headers);
  if (body === null || Buffer.isBuffer(body) || (length !== undefined && length <= mostHeld)) {
    const held = await call.bytes();
    const scanner = new ModelScanner();
    scanner.push(held);
    return toNamedBody(scanner, held, undefined);
  }
  const rest = new RestOfBody(body, call.bodyLimit, length !== undefined ? 0 : mostHeld);
  const named = await rest.untilNamed();
  if (named.rest === undefined) call.body = named.held;
  return named;
}

/** The body with another name in it; a body that is held whole stays so. Throws `invalid_json`. */
export function renamedBody(body: NamedBody, model: string): Buffer {
  const { held, start, end } = body;
  if (body.model === undefined || model === body.model) return held;
  if (body.repeated) {
    // A repeated key is set wherever it stands, for readers differ in which one they believe.
    parseJson(held);
    return Buffer.from(spliceFields(held.toString("latin1"), { model }), "latin1");
  }
  return Buffer.concat([held.subarray(0, start), Buffer.from(JSON.stringify(model)), held.subarray(end)]);
}

/** Why a body without a model cannot be sent to one of several agents. */
export function missingModel({ held }: NamedBody): ApiError {
  const json = parseJson(held);
  if (!isObject(json)) return new ApiError("invalid_type", "the request body must be a JSON object");
  if (json.model !== undefined && json.model !== null)
    return new ApiError("invalid_type", "model must be a string, of a length that a model's name can have", {
      param: "model",
    });
  return new ApiError(
    "missing_required_parameter",
    "model is missing: several agents are connected, so name a model that GET /v1/models lists",
    { param: "model" },
  );
}

function toNamedBody(scanner: ModelScanner, held: Buffer, rest: RestOfBody | undefined): NamedBody {
  const { state, name, start, end, occurrences } = scanner;
  const model = state === "named" && name !== "" ? name : undefined;
  return { model, held, rest, start, end, repeated: occurrences > 1 };
}

/** A body that is too large to be held: its beginning is, until the name is found; then it flows. */
export class RestOfBody implements ByteStream, ByteSink {
  /** Bytes that have come. */
  size = 0;
  /** Whether somebody reads it: it cannot be sent again. */
  started = false;
  readonly #source: ByteStream;
  readonly #limit: number;
  readonly #least: number;
  readonly #scanner = new ModelScanner();
  #pieces: Uint8Array[] = [];
  #settle: { resolve: (named: NamedBody) => void; reject: (error: Error) => void } | undefined;
  #sink: ByteSink | undefined;
  #ended = false;
  #failure: Error | undefined;

  /** `limit`: bytes that are let pass. `least`: bytes before which it is not known to be too large to be held. */
  constructor(source: ByteStream, limit: number, least: number) {
    this.#source = source;
    this.#limit = limit;
    this.#least = least;
  }

  /** Starts to read, until the name is known or all is read. */
  untilNamed(): Promise<NamedBody> {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#source.start(this);
    });
  }

  write(chunk: Uint8Array | string): boolean {
    if (this.#failure !== undefined) return true;
    const bytes = toBuffer(chunk);
    this.size += bytes.length;
    this.#scanner.push(bytes);
    if (this.size > this.#limit) this.#giveUp(tooLarge(this.#limit));
    else if (this.size > this.#least && this.#scanner.occurrences > 1) this.#giveUp(twice());
    else if (this.#sink !== undefined) return this.#sink.write(bytes);
    else {
      this.#pieces.push(bytes);
      if (this.#settle === undefined) return false;
      if (this.#scanner.state === "named" && this.size > this.#least) {
        this.#tell(this);
        return false;
      }
    }
    return true;
  }

  end(): void {
    this.#ended = true;
    if (this.#settle !== undefined) this.#tell(undefined);
    else this.#sink?.end();
  }

  fail(error: Error): void {
    this.#failure ??= error;
    this.#settle?.reject(error);
    this.#settle = undefined;
    this.#sink?.fail(error);
  }

  /** The body as a stream: these bytes in place of what was held, then the rest. */
  behind(held: Buffer): ByteStream {
    return {
      start: (sink) => {
        sink.write(held);
        this.start(sink);
      },
      resume: () => this.resume(),
      cancel: () => this.cancel(),
    };
  }

  start(sink: ByteSink): void {
    this.started = true;
    this.#sink = sink;
    let room = true;
    for (const piece of this.#pieces) room = sink.write(piece);
    this.#pieces = [];
    if (this.#failure !== undefined) sink.fail(this.#failure);
    else if (this.#ended) sink.end();
    else if (room) this.#source.resume();
  }

  resume(): void {
    this.#source.resume();
  }

  cancel(): void {
    this.#sink = undefined;
    this.#failure ??= new ApiError("client_closed_request", "the request is not read any more");
    this.#source.cancel();
  }

  #tell(rest: RestOfBody | undefined): void {
    const held = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#settle?.resolve(toNamedBody(this.#scanner, held, rest));
    this.#settle = undefined;
  }

  #giveUp(error: ApiError): void {
    this.#source.cancel();
    this.fail(error);
  }
}

function twice(): ApiError {
  return new ApiError(
    "invalid_value",
    "model stands twice in the request body, which is too large for that to be put right",
    {
      param: "model",
    },
  );
}
