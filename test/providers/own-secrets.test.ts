import { expect, test } from "vitest";
import { OwnSecrets } from "../../src/providers/own-secrets.ts";

const key = 'sk/live+"7f3a9c';

test.each([
  ["as it is", key],
  ["in JSON", JSON.stringify(key).slice(1, -1)],
  ["in PHP's JSON", JSON.stringify(key).slice(1, -1).replaceAll("/", "\\/")],
  ["in a URL", encodeURIComponent(key)],
  ["in Base64", Buffer.from(key).toString("base64")],
])("a key of ours %s is not repeated in a refusal", (_spelling, said) => {
  const secrets = new OwnSecrets({ authorization: `Bearer ${key}`, "x-box": "other-secret" });
  const text = `{"error":"Räuber: no such key ${said}, ${said}; nor other-secret"}`;
  expect(secrets.hide(Buffer.from(text)).toString()).toBe('{"error":"Räuber: no such key ***, ***; nor ***"}');
  expect(secrets.without({ "x-echo": `Bearer ${said}`, "content-type": "application/json" })).toEqual({
    "content-type": "application/json",
  });
});

test("words that are no secrets, and texts without any, stay as they are", () => {
  const secrets = new OwnSecrets({ authorization: "Bearer none" });
  const said = Buffer.from("there is none");
  expect([secrets.known, secrets.hide(said)]).toEqual([false, said]);
  const headers = { "x-echo": "Bearer none" };
  expect(secrets.without(headers)).toBe(headers);
});
