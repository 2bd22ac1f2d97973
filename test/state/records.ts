import { createHash, randomBytes } from "node:crypto";
import type { KeyRecord, UsageRecord } from "../../src/state/state.ts";

/** The time at which the tests of states take place. */
export const noon = Date.UTC(2026, 10, 22, 12);

/** A key as `newKey` makes one, with these fields in place of its own. */
export function someKey(fields: Partial<KeyRecord> = {}): KeyRecord {
  const id = `k${Array.from(randomBytes(12), (byte) => "abcdefghijklmnopqrstuvwxyz234567"[byte % 32]).join("")}`;
  return {
    id,
    name: `key of ${id}`,
    digest: createHash("sha256").update(randomBytes(32)).digest(),
    ending: "wxyz",
    created: noon,
    roles: ["inference"],
    models: [],
    limits: {},
    ...fields,
  };
}

/** The record of a call that went well, with these fields in place of its own. */
export function someRecord(fields: Partial<UsageRecord> = {}): UsageRecord {
  return {
    id: `call-${records++}`,
    time: noon,
    key: "kaaaaaaaaaaaa",
    path: "/v1/chat/completions",
    model: "qwen3",
    provider: "llama_cpp",
    agent: "",
    promptTokens: 10,
    cachedTokens: 4,
    completionTokens: 3,
    counted: "reported",
    spend: 7,
    firstToken: 100,
    duration: 250,
    bytesIn: 1000,
    bytesOut: 5000,
    status: 200,
    outcome: "complete",
    ...fields,
  };
}
let records = 0;
