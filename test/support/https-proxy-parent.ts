import { readFileSync } from "node:fs";
import { createServer, type TLSSocket } from "node:tls";
import { Heard } from "./open-links.ts";
import { dialAs, startConnectProxy, startDoor } from "./tunnel-door.ts";

// Run with NODE_EXTRA_CA_CERTS, which node reads only when it starts: dials relays through a proxy that speaks TLS.
const [certPath = "", keyPath = ""] = process.argv.slice(2);
const [cert, key] = [readFileSync(certPath, "utf8"), readFileSync(keyPath, "utf8")];
const proxy = await startConnectProxy("me:secret", (take) =>
  createServer({ cert, key }, take as (socket: TLSSocket) => void),
);
for (const secure of [false, true]) {
  const door = await startDoor({}, secure ? { tls: { cert, key } } : {});
  door.echo();
  for (const transport of ["upgrade", "ws"] as const) {
    const named = proxy.url.replace("http://", "https://me:secret@");
    const { link } = await dialAs(door.url, { transport, proxy: named, ...(secure ? { tls: { ca: cert } } : {}) });
    const heard = new Heard(link);
    link.write(Buffer.alloc(1_000_000, 1));
    await heard.until(() => heard.bytes.length === 1_000_000);
    // The far end goes while more is on its way.
    link.write(Buffer.alloc(1_000_000, 2));
    for (const arrival of door.arrivals.splice(0)) arrival.link.destroy();
    await heard.closed;
    process.stdout.write(`${transport} to ${secure ? "https" : "http"}\n`);
  }
  await door.stop();
}
proxy.close();
