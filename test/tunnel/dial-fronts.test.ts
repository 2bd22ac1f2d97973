import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { type Dialled, DialRefused } from "../../src/tunnel/handshake/dial.ts";
import { Heard } from "../support/open-links.ts";
import { makeCertificate } from "../support/tunnel-certificate.ts";
import { dialAs, type DoorServer, startDoor } from "../support/tunnel-door.ts";
import { nginxMissing, type NginxOptions, startNginx } from "../support/tunnel-nginx.ts";

const missing = nginxMissing();
if (missing !== undefined) console.warn(`dialling through real fronts is not tested: ${missing}`);
const certificate = makeCertificate();
afterAll(() => certificate?.remove());

const toClose: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of toClose.splice(0).toReversed()) await close();
});

async function chain(options: Omit<NginxOptions, "targets"> = {}): Promise<{ url: string; door: DoorServer }> {
  const door = await startDoor();
  door.echo();
  toClose.push(() => door.stop());
  const front = await startNginx({ ...options, targets: [door.url] });
  toClose.push(() => front.close());
  return { url: front.url, door };
}

const forwarded = "proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";
const passing = {
  all: `location / { proxy_pass http://relay; proxy_http_version 1.1; ${forwarded}
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; }`,
  webSockets: `location / { proxy_pass http://relay; proxy_http_version 1.1; ${forwarded}
    proxy_set_header Upgrade $only_websocket; proxy_set_header Connection $connection_upgrade; }`,
  nothing: `location / { proxy_pass http://relay; ${forwarded} }`,
  mounted: `location /ai/ { proxy_pass http://relay/; proxy_http_version 1.1; ${forwarded}
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; }`,
};

async function expectEcho({ link }: Dialled): Promise<void> {
  toClose.push(() => link.destroy());
  const bytes = randomBytes(3_000_000);
  const heard = new Heard(link);
  link.write(bytes);
  await heard.until(() => heard.bytes.length === bytes.length);
  expect(heard.bytes.equals(bytes)).toBe(true);
}

describe.skipIf(missing !== undefined)("through a real nginx", () => {
  test.each(["upgrade", "ws"] as const)("as documented, a relay is reached by %s", async (transport) => {
    const { url } = await chain();
    await expectEcho(await dialAs(url, { transport }));
  });

  test.each([
    ["all", "upgrade"],
    ["webSockets", "ws"],
  ] as const)("that passes %s, the way is found", async (kind, transport) => {
    const { url, door } = await chain({ location: passing[kind] });
    const dialled = await dialAs(url);
    expect(dialled.transport).toBe(transport);
    await expectEcho(dialled);
    expect(door.arrivals[0]?.address).toBe("127.0.0.1");
  });

  test("below a path, a relay is reached", async () => {
    const { url } = await chain({ location: passing.mounted });
    for (const transport of ["upgrade", "ws"] as const) await expectEcho(await dialAs(`${url}/ai`, { transport }));
  });

  test("that passes neither, it is told what to look at", async () => {
    const { url } = await chain({ location: passing.nothing });
    await expect(dialAs(url)).rejects.toThrow(/asked for an Upgrade.*asked for a WebSocket.*Upgrade header/);
  });

  test.skipIf(certificate === undefined)("that speaks TLS for it, a relay is reached", async () => {
    const tls = certificate!;
    const { url } = await chain({ location: passing.all, tls });
    await expectEcho(await dialAs(url, { tls: { ca: readFileSync(tls.cert, "utf8") } }));
    await expect(dialAs(url.replace("https", "http"))).rejects.toThrow(/write https:\/\//);
  });

  test("the relay's own refusal is known as such, and no agent is trusted for being behind it", async () => {
    const { url, door } = await chain({ location: passing.all });
    for (const change of [{ key: "lla_home_unknown" }, { key: undefined, name: "attic" } as object]) {
      const error = await dialAs(url, change).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(DialRefused);
      expect(error).toMatchObject({ status: 401 });
    }
    expect(door.arrivals).toEqual([]);
  });

  test("a relay that is down is told of as the front tells it", async () => {
    const { url, door } = await chain();
    await door.stop();
    await expect(dialAs(url)).rejects.toThrow(/answers 502 \(nginx/);
  });
});
