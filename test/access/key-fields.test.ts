import { describe, expect, test } from "vitest";
import { digestOf, newKey, revokedKey, rotatedKey } from "../../src/access/issue.ts";
import { readKeyFields, withFields } from "../../src/access/key-fields.ts";
import { readImport } from "../../src/access/key-import.ts";
import { ApiError } from "../../src/core/errors.ts";
import type { Json } from "../../src/core/json.ts";

const now = Date.UTC(2026, 10, 23);

function problem(run: () => unknown): ApiError {
  try {
    run();
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
  throw new Error("it was taken");
}

describe("the fields of a key", () => {
  test("are read as they are meant", () => {
    const fields = readKeyFields(
      {
        name: "büro — 鍵",
        owner: "Ana",
        expires: "2027-01-31",
        roles: ["metrics", "metrics", "admin"],
        models: ["qwen*"],
        limits: { tokensPerDay: 5, spendPerMonth: 0.5 },
      },
      now,
    );
    expect(fields).toEqual({
      name: "büro — 鍵",
      owner: "Ana",
      expires: Date.UTC(2027, 0, 31),
      roles: ["metrics", "admin"],
      models: ["qwen*"],
      limits: { tokensPerDay: 5, spendPerMonth: 0.5 },
    });
  });

  test.each<[string, Json, string, string]>([
    ["an unknown field", { nmae: "a" }, "nmae", 'did you mean "name"?'],
    ["an unknown limit", { limits: { tokensPerDya: 1 } }, "limits.tokensPerDya", 'did you mean "tokensPerDay"?'],
    ["a limit in another place", { tokensPerDay: 1 }, "tokensPerDay", "there are name, owner"],
    ["no object", [], "null", "must be a JSON object"],
    ["a limit below zero", { limits: { concurrent: -1 } }, "limits.concurrent", "1 or more"],
    ["a limit of nothing", { limits: { concurrent: 0 } }, "limits.concurrent", "leave it out for no limit"],
    ["a fraction of a request", { limits: { requestsPerMinute: 1.5 } }, "limits.requestsPerMinute", "whole number"],
    [
      "an endless limit",
      JSON.parse('{"limits":{"tokensPerDay":1e400}}') as Json,
      "limits.tokensPerDay",
      "whole number",
    ],
    ["an endless spend", JSON.parse('{"limits":{"spendPerDay":1e400}}') as Json, "limits.spendPerDay", "must be from"],
    ["no number", { limits: { spendPerDay: Number.NaN } }, "limits.spendPerDay", "must be from"],
    ["a spend below what is counted", { limits: { spendPerDay: 1e-7 } }, "limits.spendPerDay", "must be from"],
    ["a text for a number", { limits: { tokensPerDay: "5" } }, "limits.tokensPerDay", "must be a number"],
    ["limits in a list", { limits: [] }, "limits", "must be a JSON object"],
    ["an expiry in the past", { expires: "2026-11-22" }, "expires", "is in the past: 2026-11-22T00:00:00.000Z"],
    ["an expiry now", { expires: "2026-11-23T00:00:00Z" }, "expires", "is in the past"],
    ["an expiry that is no day", { expires: "2027-02-31T00:00" }, "expires", "must be a time"],
    ["an expiry in words", { expires: "tomorrow" }, "expires", "must be a time"],
    ["an expiry as a number", { expires: 1 }, "expires", "must be a time"],
    ["an empty name", { name: "" }, "name", "1 to 64 characters"],
    ["a long name", { name: "x".repeat(65) }, "name", "has 65"],
    ["a name of spaces", { name: " " }, "name", "space"],
    ["a name that steers the terminal", { name: "a\u001b[31m" }, "name", "control characters"],
    ["a name that reads backwards", { name: "a\u202eb" }, "name", "control characters"],
    ["a name like an id", { name: "kaaaaaaaaaaaa" }, "name", "look like the id"],
    ["a name like a flag", { name: "--json" }, "name", "dash"],
    ["a name that is none", { name: 5 }, "name", "must be a string"],
    ["a role that nobody has", { roles: ["inferense"] }, "roles[0]", 'did you mean "inference"?'],
    ["no role at all", { roles: [] }, "roles", "must not be empty"],
    ["a role that is not in a list", { roles: "admin" }, "roles", "must be a list"],
    ["an empty model", { models: ["a", ""] }, "models[1]", "1 to 200"],
    ["too many models", { models: Array<string>(101).fill("a") }, "models", "at most 100"],
  ])("with %s are refused, and say which", (_name, json, param, words) => {
    const error = problem(() => readKeyFields(json, now));
    expect([error.status, String(error.param)]).toEqual([400, param]);
    expect(error.message).toContain(words);
  });

  test("change what they say and nothing else; null takes a bound away", () => {
    const { record } = newKey(
      { name: "a", owner: "Ana", expires: now + 1, limits: { concurrent: 2, tokensPerDay: 5 } },
      now,
    );
    const changed = withFields(
      record,
      readKeyFields({ owner: null, expires: null, limits: { concurrent: null, spendPerDay: 1 } }, now),
    );
    const { owner: _, expires: __, ...rest } = record;
    expect(changed).toEqual({ ...rest, limits: { tokensPerDay: 5, spendPerDay: 1 } });
    expect(withFields(record, {})).toEqual(record);
  });
});

describe("a new key", () => {
  test("has an id in its text, and 256 random bits, of which the record has a digest and four characters", () => {
    const { record, text } = newKey({ name: "a" }, now);
    expect(text).toMatch(new RegExp(`^lair_${record.id}_[A-Za-z0-9_-]{43}$`));
    expect(record.id).toMatch(/^k[a-z2-7]{12}$/);
    expect(text.endsWith(record.ending)).toBe(true);
    expect(record).toMatchObject({ name: "a", created: now, roles: ["inference"], models: [], limits: {} });
    expect(JSON.stringify(record)).not.toContain(text.slice(-20));
    expect(newKey({ name: "a" }, now).text).not.toBe(text);
  });
});

describe("a key that is rotated, then revoked", () => {
  test("is another text, then none at all", () => {
    const first = newKey({ name: "a", limits: { concurrent: 1 } }, now);
    const second = rotatedKey(first.record, now, 1000);
    expect(second.record).toEqual({
      ...first.record,
      digest: digestOf(second.text),
      ending: second.text.slice(-4),
      previous: { digest: first.record.digest, until: now + 1000 },
    });
    expect(rotatedKey(second.record, now, 0).record).not.toHaveProperty("previous");
    const gone = revokedKey(second.record, now);
    expect(gone).not.toHaveProperty("previous");
    expect(revokedKey(gone, now + 1).revoked).toBe(now);
    expect(problem(() => rotatedKey(gone, now, 0)).message).toContain("revoked, for good");
    const over = { ...first.record, expires: now };
    expect(problem(() => rotatedKey(over, now, 0)).message).toContain("change its expiry first");
  });
});

describe("keys from elsewhere", () => {
  const text = "sk-planted-0123456789";
  const entries = (...list: Json[]): { place: string; json: Json }[] =>
    list.map((json, index) => ({ place: `line ${index + 1}`, json }));

  test("come by text or by digest, which are the same thing", () => {
    const digest = "3f0a9b1c".repeat(8);
    const [a, b] = readImport(
      entries({ name: "a", key: text, limits: { concurrent: 1 } }, { name: "b", digest: digest.toUpperCase() }),
      now,
    );
    expect(a).toMatchObject({ name: "a", ending: "6789", limits: { concurrent: 1 } });
    expect(b).toMatchObject({ name: "b", ending: "" });
    expect(b?.digest.toString("hex")).toBe(digest);
  });

  test("are refused all together, with everything that is wrong, and without a word of any key", () => {
    const error = problem(() =>
      readImport(
        entries(
          { name: "a", key: text },
          { name: "a", key: `${text}-other` },
          { name: "c", key: text },
          { name: "d", key: "planted" },
          { name: "e", key: `${text} ${text}` },
          { name: "f" },
          { name: "g", key: text, digest: "00".repeat(32) },
          { name: "h", digest: "planted" },
          { key: text },
          { name: "i", key: text, rols: [] },
          text,
        ),
        now,
      ),
    );
    expect(error.message).not.toContain("planted");
    expect(error.message.split("\n")).toEqual([
      "nothing was imported:",
      'line 2: has the name "a" as line 1',
      "line 3: has the same key as line 1",
      "line 4: key must have 16 to 4096 characters, and has 7",
      "line 5: key must be visible ASCII without spaces",
      "line 6: needs either key (its text) or digest (the text's SHA-256)",
      "line 7: needs either key (its text) or digest (the text's SHA-256)",
      "line 8: digest must be a SHA-256, 64 hexadecimal digits",
      "line 9: name is missing",
      'line 10: there is no field "rols"; did you mean "roles"?',
      "line 11: must be a JSON object",
    ]);
    expect(problem(() => readImport([], now)).message).toContain("no key");
  });
});
