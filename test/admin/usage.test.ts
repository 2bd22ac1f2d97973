import { describe, expect, it } from "vitest";
import { usageRoutes } from "../../src/admin/usage.ts";
import type { Reply } from "../../src/core/call.ts";
import { type State, type UsageRecord } from "../../src/state/state.ts";
import { memoryKeys, MemoryUsage } from "../support/memory-usage.ts";
import { toCall } from "../support/tunnel-calls.ts";
import { usageRecord } from "../support/usage-record.ts";

const laptop = { id: "kabcdefghijkl", name: "laptop" };

async function filled(records: readonly UsageRecord[]): Promise<{ usage: MemoryUsage; state: State }> {
  const usage = new MemoryUsage();
  await usage.add({ writer: "w", sequence: 1, records });
  return { usage, state: { usage, keys: memoryKeys([laptop]) } as unknown as State };
}

async function get(state: State, path: string, search = ""): Promise<Reply> {
  const handler = usageRoutes(state)[path];
  return (await handler?.(toCall({ method: "GET", path, search }).call)) as Reply;
}

const day = Date.UTC(2026, 10, 22);
const records = [
  usageRecord({ id: "a", time: day }),
  usageRecord({ id: "b", time: day + 1000, outcome: "left", spend: 0 }),
  usageRecord({ id: "c", time: day + 86_400_000, model: "office:big", key: "token-1" }),
];

describe("/admin/usage", () => {
  it("adds up what was asked for, with the names of keys, in the currency of the prices", async () => {
    const { state } = await filled(records);
    const reply = await get(state, "/admin/usage", "?from=2026-11-01&to=2026-11-30&by=day,key,model");
    expect(reply.headers["cache-control"]).toBe("no-store");
    const json = JSON.parse(reply.body as string);
    expect(json).toMatchObject({ from: "2026-11-01", to: "2026-11-30", by: ["day", "key", "model"] });
    expect(json.sums[0]).toEqual({
      day: "2026-11-22",
      key: "kabcdefghijkl",
      keyName: "laptop",
      model: "home:qwen",
      requests: 2,
      failures: 1,
      promptTokens: 200,
      cachedTokens: 80,
      completionTokens: 40,
      spend: 0.00034,
      duration: 199.8,
    });
    expect(json.sums[1]).not.toHaveProperty("keyName");
    expect(json.total).toMatchObject({ requests: 3, completionTokens: 60, spend: 0.00068 });
  });

  it("takes a key by its name, and says which words it does not know", async () => {
    const { state } = await filled(records);
    const json = JSON.parse((await get(state, "/admin/usage", "?key=laptop&by=key")).body as string);
    expect(json.sums).toHaveLength(1);
    const wrong = {
      "?from=2026-13-01": "from",
      "?to=2026-02-30": "to",
      "?from=yesterday": "from",
      "?from=2026-11-05&to=2026-11-04": "from",
      "?by=day,hour": "by",
      "?by=day,day": "by",
      "?by=": "by",
      "?format=xml": "format",
      "?group=day": "group",
      "?__proto__=1": "__proto__",
    };
    for (const [search, param] of Object.entries(wrong))
      await expect(get(state, "/admin/usage", search), search).rejects.toMatchObject({ status: 400, param });
  });

  it("as CSV survives commas, quotes and line ends, and no name becomes a formula", async () => {
    const odd = ['=HYPERLINK("http://evil","x")', "+1", "-1", "@a", "\tb", 'say "hi", twice', "a\r\nb"];
    const { state } = await filled(odd.map((model, at) => usageRecord({ model, time: day + at })));
    const reply = await get(state, "/admin/usage", "?from=2026-11-22&to=2026-11-22&by=model&format=csv");
    expect(reply.headers["content-type"]).toContain("text/csv");
    expect(reply.headers["content-disposition"]).toBe('attachment; filename="usage.csv"');
    const lines = (reply.body as string).split("\r\n");
    expect(lines[0]).toBe("model,requests,failures,prompt_tokens,cached_tokens,completion_tokens,spend,seconds");
    expect(lines[1]).toBe(`"'=HYPERLINK(""http://evil"",""x"")",1,0,100,40,20,0.00034,0.0999`);
    for (const [at, start] of ["'+1,", "'-1,", "'@a,", "'\tb,", '"say ""hi"", twice",', '"a'].entries())
      expect(lines[at + 2]?.startsWith(start), start).toBe(true);
  });

  it("says that the state is away as something that passes", async () => {
    const { state, usage } = await filled(records);
    usage.leaves();
    await expect(get(state, "/admin/usage/records")).resolves.toMatchObject({ status: 200 });
    usage.sums = () => usage.lastSequence("w") as never;
    await expect(get(state, "/admin/usage")).rejects.toMatchObject({ code: "service_unavailable" });
  });
});

describe("/admin/usage/records", () => {
  it("lists single calls, newest first, a page at a time", async () => {
    const { state } = await filled(records);
    const list = async (search: string): Promise<UsageRecord[]> =>
      JSON.parse((await get(state, "/admin/usage/records", search)).body as string).records;
    const page = await list("?limit=2");
    expect(page.map(({ id }) => id)).toEqual(["c", "b"]);
    expect((await list(`?before=${page[1]?.time}`)).map(({ id }) => id)).toEqual(["a"]);
    expect((await list("?before=2026-11-22T00:00:01Z")).map(({ id }) => id)).toEqual(["a"]);
    expect((await list("?key=laptop")).map(({ id }) => id)).toEqual(["b", "a"]);
    expect((await list("?limit=1"))[0]).toMatchObject({ spend: 0.00034, counted: "reported" });
    for (const search of ["?limit=0", "?limit=1001", "?limit=x", "?before=then"])
      await expect(list(search), search).rejects.toMatchObject({ code: "invalid_value" });
  });

  it("as CSV has a line for each, and never what was said", async () => {
    const { state } = await filled([usageRecord({ content: { request: "secret words", reply: "more" } })]);
    const body = (await get(state, "/admin/usage/records", "?format=csv")).body as string;
    expect(body.split("\r\n")).toHaveLength(3);
    expect(body).not.toContain("secret");
    const json = (await get(state, "/admin/usage/records")).body as string;
    expect(JSON.parse(json).records[0].content).toEqual({ request: "secret words", reply: "more" });
  });
});
