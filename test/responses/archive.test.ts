import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import { Archive } from "../../src/responses/archive.ts";
import { idOf, type KeptResponse, outputOf } from "../../src/responses/kept-response.ts";
import { memoryStore } from "../../src/responses/memory-store.ts";

const day = 86_400_000;
let archive: Archive;
beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date"], now: 0 });
  archive = new Archive(memoryStore(64 * 1024 * 1024), 100 * day);
});
afterEach(() => vi.useRealTimers());

const item = (id: string, text = id): JsonObject => ({ id, type: "message", role: "user", content: text });

/** Keeps a turn, and gives it as it is found. */
async function turn(name: string, previous?: KeptResponse, text?: string): Promise<KeptResponse> {
  const history = previous === undefined ? [] : [...(await archive.inputOf("a", previous)), ...outputOf(previous)];
  const response = { id: `resp_${name}`, status: "completed", output: [item(`said_${name}`)] };
  const before = previous === undefined ? undefined : { kept: previous, history };
  await archive.keep("a", archive.continue(response, [item(`asked_${name}`, text)], before));
  return (await archive.find("a", `resp_${name}`))!;
}

const idsOf = async (kept: KeptResponse): Promise<unknown[]> => (await archive.inputOf("a", kept)).map(({ id }) => id);

describe("a kept conversation", () => {
  it("is whole for as long as its last turn can be fetched, however old its first one is", async () => {
    const turns: KeptResponse[] = [];
    for (let at = 0; at < 12; at++) {
      vi.setSystemTime(at * 12 * day);
      turns.push(await turn(String(at), turns.at(-1)));
    }
    for (const [at, kept] of turns.entries()) {
      vi.setSystemTime(at * 12 * day + 100 * day - 1);
      const asked = Array.from({ length: at }, (_, one) => [`asked_${one}`, `said_${one}`]).flat();
      expect(await idsOf(kept)).toEqual([...asked, `asked_${at}`]);
      expect(await archive.find("a", idOf(kept))).toBeDefined();
      vi.setSystemTime(at * 12 * day + 100 * day);
      expect(await archive.find("a", idOf(kept))).toBeUndefined();
    }
  });

  it("takes no more room than its text and a copy now and then", async () => {
    const length = async (id: string): Promise<number> => JSON.stringify(await archive.find("a", id)).length;
    let last: KeptResponse | undefined;
    let sum = 0;
    for (let at = 0; at < 100; at++) {
      last = await turn(String(at), last, "x".repeat(1000));
      sum += await length(idOf(last));
    }
    // Whole copies of all before each turn would be 5 000 000.
    expect(sum).toBeLessThan(600_000);
    expect(await idsOf(last!)).toHaveLength(199);
  });

  it("of more text than one response may have is not kept", async () => {
    const first = await turn("1", undefined, "x".repeat(5_000_000));
    const second = await turn("2", first, "x".repeat(3_500_000));
    const third = await turn("3", second).catch((error: unknown) => String(error));
    expect(third).toContain("too long");
    expect(await idsOf(second)).toHaveLength(3);
  });

  it("is found by no name of what is kept beside it, and by no other principal", async () => {
    const { response } = await turn("1");
    await turn("2", (await archive.find("a", "resp_1"))!);
    for (const id of ["item/said_1", "next/resp_1", "", "/", "resp_1\u0000", "x".repeat(200)])
      expect(await archive.find("a", id)).toBeUndefined();
    expect(await archive.find("b", "resp_1")).toBeUndefined();
    expect((await archive.findItems("b", ["said_1"])).size).toBe(0);
    expect([...(await archive.findItems("a", ["said_1", "said_9", "next/resp_1"])).values()]).toEqual(
      response["output"],
    );
  });
});
