import { expect, test } from "vitest";
import { StreamTable } from "../../src/tunnel/http2/stream-table.ts";
import type { Http2Stream } from "../../src/tunnel/http2/stream.ts";
import { seeded } from "../support/bytes.ts";

test("streams are found by their ids among those that stay for long, however many come and go", () => {
  const random = seeded(11);
  const table = new StreamTable();
  const known = new Map<number, Http2Stream>();
  for (let id = 1; id < 20_000; id += 2) {
    const stream = { id, next: undefined } as Http2Stream;
    table.add(stream);
    known.set(id, stream);
    const leaving = [...known.values()].filter(() => random() < (id % 3000 < 1500 ? 0.004 : 0.1));
    for (const one of leaving) {
      table.remove(one);
      table.remove(one);
      known.delete(one.id);
      expect(table.get(one.id)).toBeUndefined();
    }
    if (id % 501 !== 0) continue;
    for (const [key, value] of known) expect(table.get(key)).toBe(value);
    expect(table.size).toBe(known.size);
    expect(new Set(table.list())).toEqual(new Set(known.values()));
  }
});
