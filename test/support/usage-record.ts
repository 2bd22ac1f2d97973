import type { UsageRecord } from "../../src/state/state.ts";

/** A record as a call leaves it, with what the test cares about. */
export function usageRecord(fields: Partial<UsageRecord> = {}): UsageRecord {
  return {
    id: "3f9f3c1a-8f6e-4b1e-9f0e-1c6b1f2a3b4c",
    time: 1_795_000_000_000,
    key: "kabcdefghijkl",
    path: "/v1/chat/completions",
    model: "home:qwen",
    provider: "home",
    agent: "attic",
    promptTokens: 100,
    cachedTokens: 40,
    completionTokens: 20,
    counted: "reported",
    spend: 340,
    firstToken: 12.5,
    duration: 99.9,
    bytesIn: 300,
    bytesOut: 4000,
    status: 200,
    outcome: "complete",
    ...fields,
  };
}
