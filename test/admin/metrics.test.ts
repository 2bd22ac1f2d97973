import { describe, expect, it } from "vitest";
import { ownRoutes } from "../../src/admin/own-routes.ts";
import { agentList, relayReady } from "../../src/admin/relay-status.ts";
import { agentFamilies } from "../../src/admin/agent-families.ts";
import type { Family } from "../../src/admin/exposition.ts";
import { Metrics } from "../../src/admin/metrics.ts";
import { stateFamilies } from "../../src/admin/state-families.ts";
import type { AgentState } from "../../src/core/agent-state.ts";
import type { Reply } from "../../src/core/call.ts";
import { usageRecord } from "../support/usage-record.ts";
import { type Asking, toCall } from "../support/tunnel-calls.ts";

function call(asking: Asking = {}): ReturnType<typeof toCall>["call"] {
  return toCall(asking).call;
}

const home: AgentState = {
  name: "home",
  ready: true,
  since: 1,
  left: null,
  capacity: 8,
  inFlight: 2,
  calls: 12,
  failures: 1,
  bytesIn: 100,
  bytesOut: 2000,
  roundTrip: 25,
  models: ["a", "b"],
  connections: [],
};
const away: AgentState = { ...home, name: "away", ready: false, since: null, left: 5, roundTrip: null, models: [] };

async function scrape(metrics: Metrics): Promise<string> {
  const reply: Reply = await metrics.handler(call({ method: "GET", path: "/metrics" }));
  expect(reply.headers["content-type"]).toBe("text/plain; version=0.0.4; charset=utf-8");
  return reply.body as string;
}

/** Every line is one of the three that the format has, and stands behind the type of its family. */
function check(text: string): void {
  const types = new Set<string>();
  for (const line of text.trimEnd().split("\n")) {
    const type = /^# TYPE ([a-z_]+) (?:counter|gauge|histogram)$/.exec(line)?.[1];
    if (type !== undefined) {
      expect(types.has(type), `${type} twice`).toBe(false);
      types.add(type);
      continue;
    }
    if (/^# HELP [a-z_]+ [^\n]+$/.test(line)) continue;
    const sample =
      /^([a-z_]+?)(?:_bucket|_sum|_count)?(?:\{(?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)+\})? -?[\d.]+(?:e[+-]?\d+)?$/.exec(
        line,
      );
    expect(sample, line).not.toBeNull();
    expect(
      [...types].some((name) => line.startsWith(name)),
      line,
    ).toBe(true);
  }
}

describe("the relay's metrics", () => {
  it("are valid text of Prometheus, with every agent's figures", async () => {
    const metrics = new Metrics({ version: '1.0"\\\n', families: [() => agentFamilies([home, away])] });
    metrics.observe(call(), { status: 200, end: "complete", firstByte: 30, duration: 40, bytes: 10 });
    const text = await scrape(metrics);
    check(text);
    expect(text).toContain('lair_build_info{version="1.0\\"\\\\\\n"} 1\n');
    expect(text).toContain('lair_agent_ready{agent="home"} 1\nlair_agent_ready{agent="away"} 0\n');
    expect(text).toContain('lair_agent_round_trip_seconds{agent="home"} 0.025\n');
    expect(text).not.toContain('lair_agent_round_trip_seconds{agent="away"}');
    expect(text).toContain('lair_agent_calls_total{agent="home"} 12\n');
    expect(text).toContain('lair_agent_received_bytes_total{agent="home"} 2000\n');
  });

  it("count exchanges by path, status and end, in a bounded set of labels", async () => {
    const metrics = new Metrics({ version: "1", families: [] });
    const outcome = { status: 200, end: "complete", firstByte: 1, duration: 2, bytes: 5 } as const;
    for (let count = 0; count < 3; count++) metrics.observe(call(), outcome);
    metrics.observe(call(), { ...outcome, end: "left" });
    for (let count = 0; count < 1000; count++)
      metrics.observe(call({ path: `/made/up/${count}` }), { ...outcome, status: 404 });
    const text = await scrape(metrics);
    check(text);
    expect(text).toContain('lair_requests_total{path="/v1/chat/completions",status="200",end="complete"} 3\n');
    expect(text).toContain('lair_requests_total{path="/v1/chat/completions",status="200",end="left"} 1\n');
    expect(text).toContain('lair_requests_total{path="other",status="404",end="complete"} 1000\n');
    expect(text).toContain("lair_reply_bytes_total 5020\n");
    expect(text.match(/lair_requests_total\{/g)).toHaveLength(3);
  });

  it("tell the time to the first byte as a histogram, each bound with all that is below it", async () => {
    const metrics = new Metrics({ version: "1", families: [] });
    for (const firstByte of [1, 5, 70, 70, 900_000, 0])
      metrics.observe(call(), { status: 200, end: "complete", firstByte, duration: 1, bytes: 0 });
    metrics.observe(call({ method: "GET", path: "/v1/models" }), {
      status: 200,
      end: "complete",
      firstByte: 1,
      duration: 1,
      bytes: 0,
    });
    const text = await scrape(metrics);
    expect(text).toContain('lair_first_byte_seconds_bucket{le="0.005"} 2\n');
    expect(text).toContain('lair_first_byte_seconds_bucket{le="0.05"} 2\n');
    expect(text).toContain('lair_first_byte_seconds_bucket{le="0.1"} 4\n');
    expect(text).toContain('lair_first_byte_seconds_bucket{le="300"} 4\n');
    expect(text).toContain('lair_first_byte_seconds_bucket{le="+Inf"} 5\n');
    expect(text).toContain("lair_first_byte_seconds_count 5\n");
    expect(text).toMatch(/lair_first_byte_seconds_sum 900\.146/);
  });
});

describe("what calls have used", () => {
  const metrics = (families: readonly (() => readonly Family[])[] = []): Metrics =>
    new Metrics({ version: "1", families });

  it("is told by model and direction, and in the currency of the prices", async () => {
    const counted = metrics();
    counted.count(usageRecord());
    counted.count(usageRecord({ spend: 660 }));
    counted.count(usageRecord({ model: "other", cachedTokens: 0, completionTokens: 0, spend: 0 }));
    const text = await scrape(counted);
    check(text);
    expect(text).toContain('lair_tokens_total{model="home:qwen",direction="prompt"} 120\n');
    expect(text).toContain('lair_tokens_total{model="home:qwen",direction="cached"} 80\n');
    expect(text).toContain('lair_tokens_total{model="home:qwen",direction="completion"} 40\n');
    expect(text).toContain('lair_tokens_total{model="other",direction="prompt"} 100\n');
    expect(text).toContain('lair_spend_total{model="home:qwen"} 0.001\n');
    expect(text).not.toContain("kabcdefghijkl");
  });

  it("tells only so many models apart, and none that callers made up", async () => {
    const counted = metrics();
    counted.count(usageRecord({ model: "made up", promptTokens: 0, completionTokens: 0, status: 404 }));
    for (let number = 0; number < 500; number++) counted.count(usageRecord({ model: `model-${number}` }));
    const text = await scrape(counted);
    check(text);
    expect(text).not.toContain("made up");
    expect(text.match(/lair_spend_total\{/g)).toHaveLength(101);
    expect(text).toContain('lair_tokens_total{model="other",direction="completion"} 8000\n');
  });

  it("stands beside refusals, the state and its journal", async () => {
    const journal = { health: () => ({ ok: false, backlog: 12, lost: 3 }) };
    const state = { health: () => ({ ok: false, since: 1 }) };
    const counted = metrics([() => stateFamilies({ state, limiter: { local: true }, journal })]);
    counted.refused("rate_limit_exceeded");
    counted.refused("rate_limit_exceeded");
    counted.refused("insufficient_quota");
    const text = await scrape(counted);
    check(text);
    expect(text).toContain('lair_refusals_total{code="rate_limit_exceeded"} 2\n');
    expect(text).toContain("lair_state_up 0\n");
    expect(text).toContain("lair_limits_local 1\n");
    expect(text).toContain("lair_usage_journal_up 0\n");
    expect(text).toContain("lair_usage_backlog_records 12\n");
    expect(text).toContain("lair_usage_lost_total 3\n");
  });
});

describe("the relay's own answers", () => {
  it("say that it is ready only when an agent's runtime answers", async () => {
    const ready = await relayReady(() => Promise.resolve({ ok: true }))(call());
    expect([ready.status, ready.body]).toEqual([200, '{"status":"ready"}']);
    const waiting = await relayReady(() => Promise.resolve({ ok: false, detail: "no agent is connected" }))(call());
    expect([waiting.status, waiting.body]).toEqual([503, '{"status":"no agent is connected"}']);
  });

  it("list the agents with all that is known of them", async () => {
    const { body } = await agentList(() => [home])(call());
    expect(JSON.parse(body as string)).toEqual({ agents: [home] });
  });

  it("stand before the calls that go on, by GET only", async () => {
    const next = ownRoutes({ "/health": () => Promise.resolve({ status: 200, headers: {}, body: "own" }) }, () =>
      Promise.resolve({ status: 200, headers: {}, body: "next" }),
    );
    expect((await next(call({ method: "GET", path: "/health" }))).body).toBe("own");
    expect((await next(call({ path: "/v1/chat/completions" }))).body).toBe("next");
    expect((await next(call({ path: "/constructor" }))).body).toBe("next");
    expect(() => next(call({ method: "POST", path: "/health" }))).toThrow(/takes GET/);
  });
});
