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

/** Namespaces by twos, each two joined by a network of their own. */
export interface Mesh {
  /** The address of `name` for `seenFrom`. */
  address(name: string, seenFrom: string): string;
  run(name: string, program: string, args: readonly string[], env?: Record<string, string>): ChildProcess;
  /** Whatever `name` sends to `other` vanishes, and so nothing between the two succeeds any more. */
  part(name: string, other: string): void;
  mend(name: string, other: string): void;
  close(): Promise<void>;
}

/** Builds namespaces of which each reaches each other one. */
export function buildMesh(names: readonly string[]): Mesh {
  const space = (name: string): string => `lair${name}${process.pid % 100_000}`;
  const address = (name: string, seenFrom: string): string => {
    const [at, from] = [names.indexOf(name), names.indexOf(seenFrom)];
    return `10.213.${Math.min(at, from) * 16 + Math.max(at, from)}.${at < from ? 1 : 2}`;
  };
  const children: ChildProcess[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(children.map((child) => endOf(child)));
    for (const name of names) attempt(() => ip("netns", "del", space(name)));
  };
  try {
    for (const name of names) {
      ip("netns", "add", space(name));
      ip("-n", space(name), "link", "set", "lo", "up");
    }
    for (const [at, name] of names.entries()) {
      for (const [step, other] of names.slice(at + 1).entries()) {
        const ends = [name, other].map((one) => [space(one), `${address(one, one === name ? other : name)}/24`]);
        join(
          ends[0] as [string, string],
          ends[1] as [string, string],
          `m${at}${at + 1 + step}x${process.pid % 100_000}`,
        );
      }
    }
  } catch (error) {
    for (const name of names) attempt(() => ip("netns", "del", space(name)));
    throw error;
  }
  return {
    address,
    run(name, program, args, env) {
      const child = inside(space(name), program, args, env);
      children.push(child);
      return child;
    },
    part: (name, other) => ip("-n", space(name), "route", "add", "blackhole", `${address(other, name)}/32`),
    mend: (name, other) => ip("-n", space(name), "route", "del", "blackhole", `${address(other, name)}/32`),
    close,
  };
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
    const forwarder = inside(router, process.execPath, ["-e", forward, gateway, relayAddress, String(relayPort)]);
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
      const child = inside(namespace, process.execPath, args, env);
      children.push(child);
      return child;
    },
    async close() {
      await Promise.all(children.map((child) => endOf(child)));
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

async function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

function inside(
  namespace: string,
  program: string,
  args: readonly string[],
  env: Record<string, string> = {},
): ChildProcess {
  return spawn("ip", ["netns", "exec", namespace, program, ...args], {
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
