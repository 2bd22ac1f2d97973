import { randomBytes } from "node:crypto";
import type { Link } from "../../src/tunnel/links/link.ts";

/** A frame of HTTP/2 (RFC 9113, 4.1), as well or ill formed as its parts are. */
export function frame(type: number, flags: number, stream: number, payload: Buffer, length = payload.length): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(length & 0xffffff, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream >>> 0, 5);
  return Buffer.concat([head, payload]);
}

/** What a client says first (RFC 9113, 3.4). */
export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
export const emptySettings = frame(4, 0, 0, Buffer.alloc(0));

const pick = <Item>(random: () => number, items: readonly Item[]): Item =>
  items[Math.floor(random() * items.length)] as Item;

/** Frames without sense: known and unknown kinds, streams that are there and are not, lengths that lie. */
export function wildFrames(random: () => number, count: number): Buffer {
  const frames = Array.from({ length: count }, () => {
    const size = pick(random, [0, 1, 4, 5, 6, 8, 9, 64, 1000, 20_000]);
    const payload = random() < 0.3 ? Buffer.alloc(size) : randomBytes(size);
    const stream = pick(random, [0, 0, 1, 1, 1, 2, 3, 5, 7, 99, 0x7fffffff, 0xffffffff]);
    const length = random() < 0.1 ? pick(random, [0, 17_000, 0xffffff]) : payload.length;
    return frame(
      pick(random, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 200]),
      pick(random, [0, 1, 4, 5, 8, 0x20, 0xff]),
      stream,
      payload,
      length,
    );
  });
  return Buffer.concat(frames);
}

/** Lines as the control stream has them, spoiled: other kinds, missing fields, values of any type, too much of all. */
export function wildLine(random: () => number, models: readonly string[]): string {
  const value = (): unknown =>
    pick<unknown>(random, [
      null,
      true,
      -1,
      1e308,
      "",
      "\u0000\u001b[2J",
      "x".repeat(10_000),
      [],
      {},
      [[[[]]]],
      { a: { b: {} } },
      models.map((id) => ({ id })),
      Array.from({ length: 3000 }, (_, index) => ({ id: `m${index}` })),
      [{ id: 7 }, { id: "" }, { id: "../../x" }, { id: "__proto__" }, "no card"],
    ]);
  const names = [
    "protocol",
    "version",
    "instance",
    "capacity",
    "ready",
    "models",
    "agent",
    "reason",
    "__proto__",
    "constructor",
  ];
  const type = pick(random, ["hello", "load", "drain", "drained", "welcome", "revoke", "", "toString", "__proto__", 7]);
  const fields = names.filter(() => random() < 0.5).map((name): [string, unknown] => [name, value()]);
  const good: [string, unknown][] =
    random() < 0.5
      ? []
      : [
          ["protocol", 1],
          ["version", "1"],
          ["instance", "i"],
          ["capacity", 1],
          ["ready", true],
          ["models", models.map((id) => ({ id, object: "model" }))],
        ];
  const text = JSON.stringify(Object.fromEntries([["type", type], ...good, ...fields]));
  const spoiled = pick(random, [
    text,
    text,
    text,
    text.slice(0, -1),
    `${text}${text}`,
    "[]",
    "7",
    "{".repeat(5000),
    "\u0000",
  ]);
  return `${spoiled}${pick(random, ["\n", "\n", "\n", "\r\n", "\n\n\n", ""])}`;
}

/** The link's bytes are dropped; resolves when it is closed. */
export function drop(link: Link, onBytes: (bytes: Buffer) => void = () => undefined): Promise<void> {
  return new Promise((resolve) => {
    link.start({ onBytes, onDrain: () => undefined, onClose: () => resolve() });
  });
}
