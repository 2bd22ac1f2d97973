import { createHmac } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { signHop } from "../../src/tunnel/relay/hop-signature.ts";
import { ask, sendRaw } from "../support/tunnel-caller.ts";
import { Board, sharedSecret, type SharingFleet, startSharing } from "../support/tunnel-directory.ts";
import { answering } from "../support/tunnel-fleet.ts";
import type { ScriptedAgent } from "../support/tunnel-agent.ts";

// The port on which relays take calls of each other: whoever has not the secret gets nothing there.

const path = "/v1/chat/completions";
const body = { model: "demo" };
let relay: SharingFleet;
let agent: ScriptedAgent;
let target: { method: string; path: string; session: string; relay: string };
beforeEach(async () => {
  const board = new Board();
  relay = await startSharing(board);
  agent = await relay.join({ name: "home", onCall: answering("home") });
  const [session] = board.entries.values();
  target = { method: "POST", path, session: session!.id, relay: session!.relay };
});
afterEach(async () => {
  vi.useRealTimers();
  await relay.close();
});

async function statusOf(headers: Record<string, string>, to = path): Promise<number> {
  return (await ask(relay.url + to, { body, headers })).status;
}

describe("a call of another relay", () => {
  test("is answered with a good signature", async () => {
    expect(await statusOf(signHop(sharedSecret, target))).toBe(200);
  });

  test.each([
    ["none at all", () => ({})],
    ["that of another secret", () => signHop(Buffer.from("another secret, which is as long as it"), target)],
    ["that of another method", () => signHop(sharedSecret, { ...target, method: "GET" })],
    ["that of another path", () => signHop(sharedSecret, { ...target, path: "/v1/embeddings" })],
    ["that of another query", () => signHop(sharedSecret, { ...target, path: `${path}?a=b` })],
    [
      "that of another session",
      () => ({ ...signHop(sharedSecret, { ...target, session: "a/b/c" }), "x-lair-session": target.session }),
    ],
    [
      "that of another relay",
      () => ({ ...signHop(sharedSecret, { ...target, relay: "other" }), "x-lair-relay": target.relay }),
    ],
    ["that of another moment", () => ({ ...signHop(sharedSecret, target), "x-lair-time": String(Date.now() + 1) })],
    ["that of another nonce", () => ({ ...signHop(sharedSecret, target), "x-lair-nonce": "A".repeat(22) })],
    ["a signature of no length", () => ({ ...signHop(sharedSecret, target), "x-lair-signature": "" })],
    [
      "a signature of 10,000 characters",
      () => ({ ...signHop(sharedSecret, target), "x-lair-signature": "A".repeat(10_000) }),
    ],
    ["a callers' key instead", () => ({ authorization: `Bearer ${sharedSecret.toString()}`, "x-lair-hop": "1" })],
  ])("is refused with %s", async (_what, headers) => {
    expect(await statusOf(headers() as Record<string, string>)).toBe(401);
    expect(agent.calls).toEqual([]);
  });

  test("is refused when it comes a second time, and after everything else that is good once", async () => {
    const headers = signHop(sharedSecret, target);
    expect(await statusOf(headers)).toBe(200);
    expect(await statusOf(headers)).toBe(401);
    expect(agent.calls).toHaveLength(1);
  });

  test.each([-31_000, 31_000])("is refused when its clock is %d ms from ours", async (skew) => {
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + skew });
    const headers = signHop(sharedSecret, target);
    vi.useRealTimers();
    expect(await statusOf(headers)).toBe(401);
  });

  test("is refused a second time as long as its signature is good, however the clock moves", async () => {
    const start = Date.now();
    const at = (seconds: number): void => void vi.setSystemTime(start + seconds * 1000);
    vi.useFakeTimers({ toFake: ["Date"] });
    // Made by a relay whose clock is 29 s ahead: it is good for a minute, in which the guard turns its pages.
    at(84);
    const headers = signHop(sharedSecret, target);
    at(55);
    expect(await statusOf(headers)).toBe(200);
    for (const seconds of [56, 66, 110, 90]) {
      at(seconds);
      expect(await statusOf(headers)).toBe(401);
      expect(await statusOf(signHop(sharedSecret, target))).toBe(200);
    }
    expect(agent.calls).toHaveLength(5);
  });

  test("is refused when a header of the signature comes twice", async () => {
    const lines = Object.entries(signHop(sharedSecret, target)).flatMap(([name, value]) => [
      `${name}: ${value}`,
      `${name}: ${value}`,
    ]);
    const head = [`POST ${path} HTTP/1.1`, "host: relay", "content-length: 0", "connection: close", ...lines];
    expect(await sendRaw(relay.url, `${head.join("\r\n")}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 401 /);
  });

  test("is refused with a head of 40 KB, and the port goes on", async () => {
    const headers = { ...signHop(sharedSecret, target), "x-large": "x".repeat(40_000) };
    expect(await statusOf(headers)).toBe(431);
    expect(await statusOf(signHop(sharedSecret, target))).toBe(200);
  });

  test.each(["/metrics", "/admin/agents", "/api/pull", "/v1/../api/pull", "/.lair/control"])(
    "cannot reach %s, signed or not",
    async (to) => {
      const signed = signHop(sharedSecret, { ...target, path: to });
      const lines = Object.entries(signed).map(([name, value]) => `${name}: ${value}`);
      const head = [`POST ${to} HTTP/1.1`, "host: relay", "content-length: 0", "connection: close", ...lines];
      expect(await sendRaw(relay.url, `${head.join("\r\n")}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 40[04] /);
      expect(agent.calls).toEqual([]);
    },
  );

  test("for a relay that was here before is told that it has gone astray", async () => {
    const answer = await ask(relay.url + path, {
      body,
      headers: signHop(sharedSecret, { ...target, relay: "before" }),
    });
    expect([answer.status, answer.headers["x-lair-stage"]]).toEqual([421, "astray"]);
  });

  test("signed by its fields and nothing else, as others may compute it", async () => {
    const headers = signHop(sharedSecret, target);
    const text = ["POST", path, target.session, target.relay, headers["x-lair-time"], headers["x-lair-nonce"]].join(
      "\n",
    );
    expect(headers["x-lair-signature"]).toBe(createHmac("sha256", sharedSecret).update(text).digest("base64url"));
  });
});
