import { expect, test } from "vitest";
import { Call } from "../../src/core/call.ts";
import { silent } from "../../src/core/log.ts";
import type { Channel } from "../../src/tunnel/relay/channel.ts";
import { hopDoor } from "../../src/tunnel/relay/hop-door.ts";
import { signHop } from "../../src/tunnel/relay/hop-signature.ts";

test("a call for an agent whose key was revoked a moment ago is told that it is not here, and holds up nobody", async () => {
  const secret = Buffer.from("a secret of relays, which is long enough");
  const revoked = { inFlight: 0, refusal: () => "the key was revoked" } as unknown as Channel;
  const door = hopDoor({ relay: "here", secret, find: () => [revoked], log: silent });
  const target = { method: "POST", path: "/v1/chat/completions", session: "home/one", relay: "here" };
  const body = Buffer.from(`{"model":"demo"}`);
  const headers = { ...signHop(secret, target), "content-length": String(body.length) };
  const { signal } = new AbortController();
  const reply = await door(new Call({ id: "1", method: "POST", path: target.path, headers, signal, body }));
  expect([reply.status, reply.headers["x-lair-stage"]]).toEqual([421, "astray"]);
});
