import { mkdtempSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { flagLines, settingFlags } from "../../src/cli/setting-flags.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { FlagCommand } from "../../src/config/setting.ts";

const cwd = mkdtempSync(path.join(tmpdir(), "lair-tunnel-settings-"));
afterAll(() => rmSync(cwd, { recursive: true }));

const load = (flags: Record<string, string>, command?: FlagCommand, env: Record<string, string> = {}) =>
  loadConfig({ flags, env, cwd, home: cwd, ...(command === undefined ? {} : { command }) });

describe("a flag", () => {
  it("means the command's own setting", async () => {
    const serve = await load({ port: "1", host: "a" });
    expect([serve.config.listen, serve.config.relay.port]).toEqual([{ host: "a", port: 1 }, 8081]);
    const cloud = await load({ port: "2", host: "b", "tls-cert": "c.pem", "tls-key": "k.pem" }, "cloud");
    expect(cloud.config.relay).toMatchObject({ host: "b", port: 2, tls: { cert: "c.pem" } });
    expect([cloud.config.listen.port, cloud.config.agent.tls]).toEqual([18080, {}]);
    expect(cloud.sources.get("relay.port")).toBe("--port");
    const agent = await load({ "tls-cert": "d.pem", "tls-key": "e.pem", key: "k", "log-level": "debug" }, "agent");
    expect(agent.config.agent).toMatchObject({ key: "k", tls: { cert: "d.pem" } });
    expect([agent.config.relay.tls, agent.config.log.level]).toEqual([{}, "debug"]);
  });

  it("of another command is unknown, and not in the help", () => {
    expect(Object.keys(settingFlags("agent"))).not.toContain("port");
    expect(Object.keys(settingFlags("cloud"))).not.toContain("model");
    expect(Object.keys(settingFlags())).not.toContain("tls-cert");
    expect(flagLines("cloud").join("\n")).toMatch(/-p, --port <value> +Port of the relay/);
    expect(flagLines().join("\n")).toMatch(/-p, --port <value> +Port to listen on;[\s\S]*--publish/);
  });
});

describe("the tunnel's settings", () => {
  it.each([
    ["cloud", { "tls-cert": "c" }, "relay.tls.key (--tls-cert): is missing; cert is set, and needs it"],
    ["cloud", { "tls-client-ca": "c" }, "relay.tls.cert (--tls-client-ca): is missing; clientCa is set"],
    ["agent", { "tls-key": "k" }, "agent.tls.cert (--tls-key): is missing; key is set"],
  ] as const)("need a certificate and its key: lair %s %j", async (command, flags, message) => {
    await expect(load(flags, command)).rejects.toThrow(message);
    await expect(load({ "tls-cert": "c", "tls-key": "k" }, command)).resolves.toBeDefined();
  });

  it("come from variables without a warning", async () => {
    const env = {
      LAIR_RELAY_PORT: "9",
      LAIR_AGENT_KEY: "k",
      LAIR_AGENT_TLS_CA: "ca.pem",
      LAIR_PUBLISH: "https://r:8081",
    };
    const { config, warnings } = await load({}, "cloud", env);
    expect(config).toMatchObject({
      relay: { port: 9 },
      agent: { key: "k", tls: { ca: "ca.pem" } },
      publish: "https://r:8081",
    });
    expect(warnings).toEqual([]);
  });

  it("take ~ in a path for the folder of the user", async () => {
    const { config } = await load({ agents: "~/agents.json", "tls-cert": "~/c.pem", "tls-key": "k.pem" }, "cloud");
    expect(config.relay).toMatchObject({
      agents: path.join(homedir(), "agents.json"),
      tls: { cert: path.join(homedir(), "c.pem"), key: "k.pem" },
    });
  });

  it.each([
    ["127.0.0.1:1", "http://127.0.0.1:1"],
    ["http://box", "http://box:18080"],
    ["http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080"],
    ["https://box/base", "https://box/base"],
  ])("take the runtime %s for %s", async (given, meant) => {
    expect((await load({ openai: given }, "agent")).config.agent.openai).toBe(meant);
  });

  it.each([
    ["cloud", "relay.example:8081", "is no address of a relay"],
    ["cloud", "https://me:s3cret@relay.example", "must not hold a user name or password"],
    ["cloud", "https://relay.example/?key=1", "must end before ? and #"],
    ["openai", "http://a,http://b", "names more than one server"],
    ["openai", "ftp://a", 'cannot use "ftp://"'],
    ["connections", "5", "allowed: a whole number from 1 to 4"],
    ["transport", "quic", "allowed: one of auto, upgrade, ws"],
    ["name", "My-Box", "agent.name (--name): found"],
  ])("refuse --%s %s", async (flag, value, message) => {
    const problem = await load({ [flag]: value }, "agent").then(String, (error: unknown) => String(error));
    expect(problem).toContain(message);
    expect(problem).not.toContain("s3cret");
  });
});
