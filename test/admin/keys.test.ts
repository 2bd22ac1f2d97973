import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KeyRing } from "../../src/access/key-ring.ts";
import { keyRoutes } from "../../src/admin/keys.ts";
import { ownRoutes } from "../../src/admin/own-routes.ts";
import { silent } from "../../src/core/log.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { type AccessServer, startAccessServer } from "../support/access-server.ts";
import { MemoryKeys } from "../support/memory-keys.ts";

const admin = "an-admins-token-of-20-characters";
let keys: MemoryKeys;
let ring: KeyRing;
let server: AccessServer;

async function start(adminTokens: string[]): Promise<void> {
  keys = new MemoryKeys();
  ring = await KeyRing.open(keys.asState(), silent);
  server = await startAccessServer({ adminTokens, ring }, (handler) =>
    ownRoutes(keyRoutes(keys.asState(), ring), handler),
  );
}

async function stop(): Promise<void> {
  ring.close();
  await server.close();
}

interface Answer {
  readonly status: number;
  readonly json: JsonObject;
  readonly headers: Headers;
}

async function ask(path: string, body?: unknown, key = admin): Promise<Answer> {
  const reply = await fetch(`${server.url}${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  return { status: reply.status, json: (await reply.json()) as JsonObject, headers: reply.headers };
}

const messageOf = ({ json }: Answer): string => (json.error as JsonObject).message as string;
const use = async (text: unknown): Promise<number> => (await ask("/v1/models", undefined, String(text))).status;

describe("/admin/keys", () => {
  beforeEach(() => start([admin]));
  afterEach(stop);

  test("makes a key that works at once, whose text is told once and never again", async () => {
    const made = await ask("/admin/keys", { name: "ci", owner: "Ana", models: ["a*"], limits: { concurrent: 2 } });
    expect(made.status).toBe(201);
    expect(made.headers.get("cache-control")).toBe("no-store");
    expect(made.json).toMatchObject({
      name: "ci",
      owner: "Ana",
      state: "works",
      models: ["a*"],
      limits: { concurrent: 2 },
    });
    const text = made.json.key as string;
    expect(await use(text)).toBe(200);
    const { id } = made.json;
    for (const path of ["/admin/keys", `/admin/keys/${String(id)}`, "/admin/keys/ci"]) {
      const { status, json, headers } = await ask(path);
      expect([status, headers.get("cache-control")]).toEqual([200, "no-store"]);
      expect(JSON.stringify(json)).toContain(`"id":"${String(id)}"`);
      expect(JSON.stringify(json)).not.toContain(text.slice(-12));
    }
    expect(server.lines.join()).not.toContain(text.slice(-12));
    expect(server.lines.join()).toContain('"key":"admin-1"');
  });

  test("changes, rotates and revokes, with effect on the next call", async () => {
    const first = (await ask("/admin/keys", { name: "ci" })).json.key;
    const changed = await ask("/admin/keys/ci", { name: "build", limits: { tokensPerDay: 5 }, expires: "2100-01-01" });
    expect(changed.json).toMatchObject({
      name: "build",
      limits: { tokensPerDay: 5 },
      expires: "2100-01-01T00:00:00.000Z",
    });
    expect((await ask("/admin/keys/ci")).status).toBe(404);
    const rotated = await ask("/admin/keys/build/rotate", { grace: 3600 });
    expect(rotated.headers.get("cache-control")).toBe("no-store");
    expect(rotated.json.previousUntil).not.toBeNull();
    expect([await use(first), await use(rotated.json.key)]).toEqual([200, 200]);
    const again = await ask("/admin/keys/build/rotate", { grace: 0 });
    expect([await use(first), await use(rotated.json.key), await use(again.json.key)]).toEqual([401, 401, 200]);
    expect((await ask("/admin/keys/build/revoke", "")).json.state).toBe("revoked");
    expect(await use(again.json.key)).toBe(401);
    expect((await ask("/admin/keys/build/revoke", {})).status).toBe(200);
    expect(messageOf(await ask("/admin/keys/build/rotate", {}))).toContain("revoked, for good");
  });

  test("lists in pages, in the order of names", async () => {
    for (const name of ["d", "a", "c", "b", "e"]) await ask("/admin/keys", { name });
    const names = async (query: string): Promise<[unknown[], unknown]> => {
      const { json } = await ask(`/admin/keys${query}`);
      return [(json.keys as JsonObject[]).map(({ name }) => name), json.next];
    };
    expect(await names("")).toEqual([["a", "b", "c", "d", "e"], null]);
    expect(await names("?limit=2")).toEqual([["a", "b"], "b"]);
    expect(await names("?limit=2&after=b")).toEqual([["c", "d"], "d"]);
    expect(await names("?limit=2&after=d")).toEqual([["e"], null]);
    for (const limit of ["0", "1001", "x", "1.5"]) expect((await ask(`/admin/keys?limit=${limit}`)).status).toBe(400);
  });

  test("imports all or none", async () => {
    const text = "sk-planted-0123456789";
    const refused = await ask("/admin/keys/import", {
      keys: [
        { name: "a", key: text },
        { name: "a", digest: "planted" },
      ],
    });
    expect(refused.status).toBe(400);
    expect(messageOf(refused)).toContain("keys[1]: digest must be");
    expect(JSON.stringify(refused.json)).not.toContain("planted");
    expect((await ask("/admin/keys")).json.keys).toEqual([]);
    const taken = await ask("/admin/keys/import", { keys: [{ name: "a", key: text, models: ["m"] }] });
    expect(taken).toMatchObject({ status: 201, json: { imported: 1, keys: [{ name: "a" }] } });
    expect(await use(text)).toBe(200);
    const twice = await ask("/admin/keys/import", { keys: [{ name: "a", key: `${text}2` }] });
    expect([twice.status, messageOf(twice)]).toEqual([400, 'the name "a" is taken']);
  });

  test.each<[string, string, unknown, number, string]>([
    ["an unknown field", "/admin/keys", { name: "a", modles: [] }, 400, 'did you mean "models"?'],
    ["no name", "/admin/keys", {}, 400, "name is missing"],
    ["an impossible limit", "/admin/keys", '{"name":"a","limits":{"tokensPerDay":1e400}}', 400, "limits.tokensPerDay"],
    ["a taken name", "/admin/keys", { name: "there" }, 400, "taken"],
    ["no JSON", "/admin/keys", "{", 400, "not valid JSON"],
    ["a list", "/admin/keys", [], 400, "JSON object"],
    ["a key that is not there", "/admin/keys/absent", { owner: "x" }, 404, 'no key "absent"'],
    ["a broken name", "/admin/keys/%zz", { owner: "x" }, 400, "percent-encoded"],
    ["an unknown deed", "/admin/keys/there/destroy", {}, 404, "rotate and revoke"],
    ["a prototype's deed", "/admin/keys/there/constructor", {}, 404, "rotate and revoke"],
    ["a path that goes on", "/admin/keys/there/rotate/x", {}, 404, "rotate and revoke"],
    ["an endless grace", "/admin/keys/there/rotate", { grace: 1e9 }, 400, "grace must be seconds"],
    ["a negative grace", "/admin/keys/there/rotate", { grace: -1 }, 400, "grace must be seconds"],
    ["a revocation with a wish", "/admin/keys/there/revoke", { later: true }, 400, '"later"'],
    ["an import of nothing", "/admin/keys/import", { keys: [] }, 400, "no key to import"],
    ["an import without a list", "/admin/keys/import", {}, 400, "keys must be a list"],
  ])("refuses %s", async (_name, path, body, status, words) => {
    await ask("/admin/keys", { name: "there" });
    const answer = await ask(path, body);
    expect(answer.status).toBe(status);
    expect(messageOf(answer)).toContain(words);
    expect((await ask("/admin/keys")).json.keys).toHaveLength(1);
  });

  test("is for admins only, by token or by key", async () => {
    const plain = (await ask("/admin/keys", { name: "plain" })).json.key as string;
    expect((await ask("/admin/keys", { name: "x" }, plain)).status).toBe(403);
    expect((await ask("/admin/keys", undefined, plain)).status).toBe(403);
    const boss = (await ask("/admin/keys", { name: "boss", roles: ["admin"] })).json.key as string;
    expect((await ask("/admin/keys", { name: "y" }, boss)).status).toBe(201);
    expect(await use(boss)).toBe(403);
  });

  test("says that the state is away, and makes nothing", async () => {
    keys.away = true;
    const { status, json } = await ask("/admin/keys");
    expect([status, (json.error as JsonObject).code]).toEqual([503, "service_unavailable"]);
  });
});

describe("a server that asks nobody for a key", () => {
  beforeEach(() => start([]));
  afterEach(stop);

  test("shows its keys and lets nobody make one, or every page and program on the machine could", async () => {
    expect((await ask("/admin/keys")).status).toBe(200);
    const made = await ask("/admin/keys", { name: "mine", roles: ["admin"] });
    expect([made.status, (made.json.error as JsonObject).code]).toEqual([403, "insufficient_scope"]);
    expect(ring.size).toBe(0);
  });
});
