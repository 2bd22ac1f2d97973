import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { CannotRun } from "../support/options.ts";
import { findProgram, freePort, startPinned, until } from "../support/processes.ts";
import { type Proxy, proxyFolder, proxyOf } from "../support/proxy.ts";
import type { Line } from "./contenders.ts";

/** Starts `ssh -R` to an sshd of its own on this machine, as Debian builds both: own keys, own configuration, no PAM. */
export async function startSsh(core: string, upstreamPort: number, line: Line): Promise<Proxy> {
  const programs = requireSsh();
  const folder = proxyFolder();
  const [port, sshdPort] = [await freePort(), await freePort()];
  for (const name of ["host", "user"])
    execFileSync(programs["ssh-keygen"], ["-q", "-t", "ed25519", "-N", "", "-f", join(folder, name)]);
  const config = join(folder, "sshd_config");
  writeFileSync(config, sshdConfig(folder, sshdPort));
  // As root it insists on the empty folder of its service, which a service that never ran has not made.
  if (process.getuid?.() === 0 && !existsSync(separationFolder)) mkdirSync(separationFolder, { mode: 0o755 });
  const sshdLog = join(folder, "logs", "sshd.log");
  const sshd = startPinned({ command: programs.sshd, args: ["-D", "-e", "-f", config], core, log: sshdLog });
  await until(`sshd ready (its log: ${sshdLog})`, 10, () => {
    if (sshd.exitCode !== null) throw new Error(`sshd ended: ${readFileSync(sshdLog, "utf8")}`);
    return readFileSync(sshdLog, "utf8").includes("Server listening");
  });
  const log = join(folder, "logs", "ssh.log");
  const args = sshArguments(folder, await line(sshdPort), [port, upstreamPort]);
  const ssh = startPinned({ command: programs.ssh, args, core, log });
  const ends = [
    { child: sshd, log: sshdLog },
    { child: ssh, log },
  ];
  return proxyOf(ends, { name: "ssh -R", port, headers: {}, model: "bench-model" });
}

/** The paths of OpenSSH's programs. Throws `CannotRun`. */
export function requireSsh(): Record<(typeof programNames)[number], string> {
  const found = programNames.map((name) => [name, findProgram(name)] as const);
  const missing = found.find(([, path]) => path === undefined);
  if (missing === undefined) return Object.fromEntries(found) as ReturnType<typeof requireSsh>;
  throw new CannotRun(
    `${missing[0]} is missing. Debian, Ubuntu: apt-get install openssh-server openssh-client (its service need not run). Or leave it out: --only nginx,lair`,
  );
}

export function sshVersion(): string {
  return spawnSync(requireSsh().ssh, ["-V"], { encoding: "utf8" }).stderr.trim();
}

const programNames = ["sshd", "ssh", "ssh-keygen"] as const;
const separationFolder = "/run/sshd";

function sshdConfig(folder: string, port: number): string {
  return `ListenAddress 127.0.0.1:${port}
HostKey ${folder}/host
AuthorizedKeysFile ${folder}/user.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding remote
`;
}

function sshArguments(folder: string, sshdPort: number, [port, upstreamPort]: readonly [number, number]): string[] {
  const options = {
    IdentityFile: join(folder, "user"),
    IdentitiesOnly: "yes",
    StrictHostKeyChecking: "no",
    UserKnownHostsFile: join(folder, "known_hosts"),
    ExitOnForwardFailure: "yes",
    BatchMode: "yes",
  };
  const flags = ["-N", "-T", "-F", "none", "-p", String(sshdPort)];
  for (const [name, value] of Object.entries(options)) flags.push("-o", `${name}=${value}`);
  return [...flags, "-R", `127.0.0.1:${port}:127.0.0.1:${upstreamPort}`, `${userInfo().username}@127.0.0.1`];
}
