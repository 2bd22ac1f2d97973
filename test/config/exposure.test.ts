import { describe, expect, it } from "vitest";
import { checkExposure, checkRelayExposure } from "../../src/config/exposure.ts";
import { schema } from "../../src/config/schema.ts";

const refused = (value: unknown) => checkExposure(schema.parse(value));

it.each(["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]", "::ffff:127.0.0.1"])(
  "may listen on %s without a key",
  (host) => {
    expect(refused({ listen: { host } })).toBeUndefined();
  },
);

it.each(["0.0.0.0", "::", "192.168.1.2", "my-box", "127.0.0.1.example", "128.0.0.1"])(
  "must not listen on %s without a key",
  (host) => {
    const message = refused({ listen: { host, port: 1234 } });
    expect(message).toContain(`listening on ${host} without a key is refused`);
    for (const way of ["--host 127.0.0.1", "LLM_V1_PROXY_TOKEN=", "--insecure"]) expect(message).toContain(way);
  },
);

it("may listen anywhere with a key, or when asked to", () => {
  expect(refused({ listen: { host: "0.0.0.0" }, auth: { keys: ["k"] } })).toBeUndefined();
  expect(refused({ listen: { host: "0.0.0.0" }, insecure: true })).toBeUndefined();
});

describe("the relay", () => {
  const relayRefused = (value: unknown, agents: number) => checkRelayExposure(schema.parse(value), agents);

  it("may listen on this machine without any key", () => {
    expect(relayRefused({}, 0)).toBeUndefined();
    expect(relayRefused({ listen: { host: "0.0.0.0" } }, 0), "listen is serve's").toBeUndefined();
  });

  it("must not listen beyond it without callers' keys, unless asked to", () => {
    const message = relayRefused({ relay: { host: "0.0.0.0", port: 1234 } }, 1);
    expect(message).toMatch(/listening on 0\.0\.0\.0 without a key is refused.*port 1234/);
    for (const way of ["--host 127.0.0.1", "LLM_V1_PROXY_TOKEN=", "--insecure"]) expect(message).toContain(way);
    expect(relayRefused({ relay: { host: "0.0.0.0" }, insecure: true }, 1)).toBeUndefined();
    expect(relayRefused({ relay: { host: "0.0.0.0" }, auth: { keys: ["k"] } }, 1)).toBeUndefined();
  });

  it.each([{ auth: { keys: ["k"] } }, { insecure: true }])(
    "must not listen beyond it while no agent could connect (%j)",
    (more) => {
      const message = relayRefused({ relay: { host: "::" }, ...more }, 0);
      expect(message).toMatch(/listening on :: without any agent is refused[\s\S]*lair cloud agents add NAME/);
    },
  );
});
