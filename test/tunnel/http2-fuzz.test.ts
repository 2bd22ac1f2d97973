import { expect, test } from "vitest";
import { HeaderDecoder } from "../../src/tunnel/http2/hpack-decoder.ts";
import { SessionError } from "../../src/tunnel/http2/errors.ts";
import { preface } from "../../src/tunnel/http2/frames.ts";
import { Http2Session } from "../../src/tunnel/http2/session.ts";
import type { Http2Stream, StreamHandler } from "../../src/tunnel/http2/stream.ts";
import { seeded } from "../support/bytes.ts";
import { BareLink, block, frame, headersFrame, number32, request, settingsFrame, turn } from "../support/http2-peer.ts";

type Random = () => number;

function below(random: Random, most: number): number {
  return Math.floor(random() * most);
}

function oneOf<T>(random: Random, list: readonly T[]): T {
  return list[below(random, list.length)]!;
}

/** What the frames of one session are made of. */
interface Mix {
  readonly numbers: readonly number[];
  readonly ids: readonly number[];
  readonly types: number;
}

/** Frames that each could be sent, though not in this order; and frames that nobody should send. */
const tame: Mix = { numbers: [1, 2, 3, 7, 255, 16_384, 65_535], ids: [1, 1, 3, 3, 5, 7], types: 0 };
const wild: Mix = {
  numbers: [0, ...tame.numbers, 0x7fffffff, 0x80000000, 0xffffffff],
  ids: [0, ...tame.ids, 2, 999, 0x7fffffff],
  types: 12,
};

function anyFrame(random: Random, head: Record<string, string>, { numbers, ids, types }: Mix): Buffer {
  const id = oneOf(random, ids);
  const bytes = Buffer.alloc(oneOf(random, [0, 1, 4, 5, 6, 8, 100, 5000, 16_000]), below(random, 256));
  switch (below(random, 14)) {
    case 0:
    case 1:
      return frame(0, below(random, 2), id, bytes);
    case 2:
      return frame(0, 8, id, Buffer.concat([Buffer.of(40), Buffer.from("0123456789"), Buffer.alloc(40)]));
    case 3:
    case 4:
      return headersFrame(id, head, random() < 0.5);
    case 5:
      return Buffer.concat([frame(1, 0, id, block(head)), frame(9, 4, id, "")]);
    case 6:
      return headersFrame(id, { ...head, "content-length": String(oneOf(random, numbers)) }, random() < 0.3);
    case 7:
      return frame(3, 0, id, number32(oneOf(random, numbers)));
    case 8:
      return settingsFrame([oneOf(random, [1, 3, 4, 6, 99]), oneOf(random, numbers)]);
    case 9:
      return random() < 0.5 ? frame(4, 1, 0) : frame(6, below(random, 2), 0, number32(0, below(random, 4)));
    case 10:
      return frame(7, 0, 0, number32(oneOf(random, numbers), below(random, 14)));
    case 11:
    case 12:
      return frame(8, 0, oneOf(random, [0, id]), number32(oneOf(random, numbers)));
    default:
      return frame(types === 0 ? 50 : below(random, types), below(random, 64), id, bytes);
  }
}

/** The bytes with some of them changed, left out, said twice or made up. */
function mutated(random: Random, bytes: Buffer): Buffer {
  let result = Buffer.from(bytes);
  for (let n = below(random, 4); n > 0; n--) {
    const at = below(random, result.length);
    const size = below(random, 20);
    const made = Buffer.from(Array.from({ length: size }, () => below(random, 256)));
    const kind = below(random, 5);
    if (kind < 2) result[at] = result[at]! ^ (1 << below(random, 8));
    else if (kind === 2) result = Buffer.concat([result.subarray(0, at), result.subarray(at + size)]);
    else if (kind === 3) result = Buffer.concat([result.subarray(0, at + size), result.subarray(at)]);
    else result = Buffer.concat([result.subarray(0, at), made, result.subarray(at)]);
  }
  return result;
}

/** A handler of many moods that checks that it is told things in their order. */
class MoodyHandler implements StreamHandler {
  stream: Http2Stream | undefined;
  over = false;
  ended = false;
  calm = false;
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  onHead(): void {
    this.#live();
    if (this.ended) throw new Error("a head behind the end");
    this.#act();
  }

  onData(chunk: Buffer): void {
    this.#live();
    if (this.ended || chunk.length === 0) throw new Error("data behind the end, or none");
    this.#act();
  }

  onEnd(): void {
    this.#live();
    if (this.ended) throw new Error("a second end");
    this.ended = true;
    this.#act();
  }

  onReset(): void {
    this.#live();
    this.over = true;
  }

  onDrain(): void {
    this.#live();
    this.#act();
  }

  #live(): void {
    if (this.over) faults.push("something was told behind the reset");
  }

  #act(): void {
    const { stream } = this;
    if (stream === undefined || this.calm) return;
    const mood = below(this.#random, 12);
    try {
      if (mood === 0) stream.pause();
      else if (mood === 1) stream.resume();
      else if (mood === 2) stream.respond({ ":status": "200" }, this.#random() < 0.3);
      else if (mood === 3) stream.write("text");
      else if (mood === 4) stream.write(Buffer.alloc(below(this.#random, 200_000)));
      else if (mood === 5) stream.end();
      else if (mood === 6) {
        this.over = true;
        stream.reset(8);
      } else if (mood === 7 && this.#random() < 0.2) throw new Error("a fault of the reader");
    } catch (error) {
      if (!/head/.test((error as Error).message)) throw error;
    }
  }
}

const faults: string[] = [];
const megabyte = 1024 * 1024;

async function play(role: "client" | "server", seed: number): Promise<boolean> {
  const random = seeded(seed);
  const link = new BareLink();
  const handlers: MoodyHandler[] = [];
  let closes = 0;
  const handle = (stream?: Http2Stream): MoodyHandler => {
    const handler = new MoodyHandler(random);
    handler.stream = stream;
    handlers.push(handler);
    return handler;
  };
  const session = new Http2Session(link, { role, onStream: handle, onClose: () => closes++ });
  const head: Record<string, string> = role === "server" ? request : { ":status": "200" };
  const opening = role === "server" ? [preface, settingsFrame()] : [settingsFrame()];
  const mix = seed % 2 === 0 ? tame : wild;
  const calls = role === "server" ? [1, 3, 5, 7].map((id) => headersFrame(id, head, random() < 0.3)) : [];
  const frames = Array.from({ length: 1 + below(random, 60) }, () => anyFrame(random, head, mix));
  const valid = Buffer.concat([...opening, settingsFrame([4, 100_000]), ...calls, ...frames]);
  const bytes = seed % 4 === 0 ? valid : mutated(random, valid);
  for (let n = 0; role === "client" && n < 4; n++) {
    const handler = handle();
    handler.stream = session.open(request, handler, random() < 0.5);
  }
  for (let at = 0; at < bytes.length;) {
    const end = at + 1 + below(random, random() < 0.2 ? 3 : 4000);
    link.feed(bytes.subarray(at, end));
    at = end;
    if (random() < 0.1) link.room = !link.room;
    if (random() < 0.1) link.drain();
    if (random() < 0.1) await turn();
    for (const handler of handlers) if (random() < 0.1) handler.stream?.resume();
  }
  const unread = handlers.reduce((sum, { stream }) => sum + (stream?.unread ?? 0), 0);
  expect(unread).toBeLessThanOrEqual(bytes.length);
  expect(Buffer.concat(link.written).length).toBeLessThan(4 * megabyte);
  const survived = !session.closed;
  if (survived) link.lose();
  await turn();
  for (const handler of handlers) {
    handler.calm = true;
    handler.stream?.resume();
  }
  expect([closes, session.closed, session.openStreams]).toEqual([1, true, 0]);
  return survived;
}

test.each(["server", "client"] as const)(
  "whatever a peer sends, a %s goes on or closes once, tells things in order and holds little",
  async (role) => {
    let survived = 0;
    for (let seed = 1; seed <= 1000; seed++) {
      if (await play(role, seed)) survived++;
      expect(faults, `seed ${seed}`).toEqual([]);
    }
    // Neither does every session die of its mutations, nor does none.
    expect(survived).toBeGreaterThan(50);
    expect(survived).toBeLessThan(950);
  },
);

test("whatever a block of headers is, it is decoded or refused, and its headers are whole", () => {
  const random = seeded(7);
  const decoder = new HeaderDecoder(256);
  const blocks = [
    block(request),
    Buffer.from("828684418cf1e3c2e5f23a6ba0ab90f4ff", "hex"),
    Buffer.from("4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf".replaceAll(" ", ""), "hex"),
    Buffer.from("3f11be5808 6e6f 2d63 6163 6865".replaceAll(" ", ""), "hex"),
  ];
  let refused = 0;
  for (let n = 0; n < 20_000; n++) {
    try {
      const headers = decoder.decode(mutated(random, oneOf(random, blocks)));
      if (decoder.problem === undefined)
        for (const [name, value] of Object.entries(headers)) {
          expect(name).toMatch(/^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/);
          expect(value).not.toMatch(/[\0\r\n]/);
        }
    } catch (error) {
      if (!(error instanceof SessionError)) throw error;
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(1000);
});
