import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";

/** A relay's host with a public address, a home, and the router between them, each in a network namespace of its own. */
export interface Namespaces {
  /** Where the relay runs; from here nothing leads into the home. */
  readonly internet: string;
  readonly home: string;
  /** The relay's host as the internet sees it. */
  readonly relayAddress: string;
  /** The router as the home sees it: what connects here comes out at the relay. */
  readonly gateway: string;
  /** The agent's host, which only the home knows. */
  readonly homeAddress: string;
  /** The router's own address on the internet, behind which the home hides. */
  readonly routerAddress: string;
  /** Runs node in a namespace. */
  node(namespace: string, args: readonly string[], env?: Record<string, string>): ChildProcess;
  close(): Promise<void>;
}

/** Why there can be no namespaces here, or undefined. */
export function namespacesMissing(): string | undefined {
  if (process.platform !== "linux") return "network namespaces are Linux's";
  const probe = `lairprobe${process.pid}`;
  try {
    ip("netns", "add", probe);
    ip("netns", "del", probe);
    return undefined;
  } catch (error) {
    return `\`ip netns add\` is not permitted here: ${(error as Error).message.split("\n").at(-2) ?? ""}`;
  }
}

/**
 * Builds them. The router carries TCP connections from the home to the relay's port and none the other way, under its
 * own address, as the NAT of a home router does; it forwards no packets, so that nothing needs a firewall.
 */
export async function buildNamespaces(relayPort: number): Promise<Namespaces> {
  const id = process.pid % 100_000;
  const [internet, router, home] = ["net", "nat", "home"].map((name) => `lair${name}${id}`) as [string, string, string];
  const [relayAddress, routerAddress, gateway, homeAddress] = [
    "198.51.100.2",
    "198.51.100.3",
    "192.168.77.1",
    "192.168.77.2",
  ];
  const remove = (): void => {
    for (const name of [internet, router, home]) attempt(() => ip("netns", "del", name));
  };
  const children: ChildProcess[] = [];
  try {
    for (const name of [internet, router, home]) {
      ip("netns", "add", name);
      ip("-n", name, "link", "set", "lo", "up");
    }
    join([internet, `${relayAddress}/24`], [router, `${routerAddress}/24`], `lw${id}`);
    join([router, `${gateway}/24`], [home, `${homeAddress}/24`], `lh${id}`);
    ip("-n", home, "route", "add", "default", "via", gateway);
    const forwarder = inside(router, ["-e", forward, gateway, relayAddress, String(relayPort)]);
    children.push(forwarder);
    await once(forwarder.stdout as NodeJS.EventEmitter, "data");
  } catch (error) {
    for (const child of children) child.kill("SIGKILL");
    remove();
    throw error;
  }
  return {
    internet,
    home,
    relayAddress,
    gateway,
    homeAddress,
    routerAddress,
    node(namespace, args, env) {
      const child = inside(namespace, args, env);
      children.push(child);
      return child;
    },
    async close() {
      await Promise.all(
        children.map(async (child) => {
          if (child.exitCode !== null || child.signalCode !== null) return;
          const ended = once(child, "exit");
          child.kill("SIGKILL");
          await ended;
        }),
      );
      remove();
    },
  };
}

const forward = `
const { createServer, connect } = require("node:net");
const [gateway, relay, port] = process.argv.slice(1);
createServer((near) => {
  const far = connect(Number(port), relay);
  near.on("error", () => far.destroy()).on("close", () => far.destroy());
  far.on("error", () => near.destroy()).on("close", () => near.destroy());
  near.pipe(far).pipe(near);
}).listen(Number(port), gateway, () => console.log("listening"));
`;

function inside(namespace: string, args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  return spawn("ip", ["netns", "exec", namespace, process.execPath, ...args], {
    env: { PATH: process.env["PATH"] ?? "", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

function join([near, nearAddress]: [string, string], [far, farAddress]: [string, string], link: string): void {
  ip("-n", near, "link", "add", `${link}a`, "type", "veth", "peer", "name", `${link}b`, "netns", far);
  ip("-n", near, "addr", "add", nearAddress, "dev", `${link}a`);
  ip("-n", far, "addr", "add", farAddress, "dev", `${link}b`);
  ip("-n", near, "link", "set", `${link}a`, "up");
  ip("-n", far, "link", "set", `${link}b`, "up");
}

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "pipe", "pipe"] });
}

function attempt(work: () => void): void {
  try {
    work();
  } catch {
    // It was not there.
  }
}
