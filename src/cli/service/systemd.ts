import { posix } from "node:path";
import { UsageError } from "../command.ts";
import { mark, type Program, type Registration, type Site, withoutControls } from "./definition.ts";

/** How systemd is told of a service: a unit of the user's, or of the machine. */
export function systemdRegistration({ name, system, user, home }: Site): Registration {
  const systemctl = ["systemctl", ...(system ? [] : ["--user"])] as const;
  const unit = `${name}.service`;
  const folder = system ? "/etc/systemd/system" : posix.join(home, ".config", "systemd", "user");
  const command = (...words: string[]): [string, ...string[]] => [systemctl[0], ...systemctl.slice(1), ...words];
  return {
    file: posix.join(folder, unit),
    encoding: "utf8",
    start: [
      { command: command("daemon-reload") },
      { command: command("enable", unit) },
      // Also where it runs already: a new definition or key counts from now on.
      { command: command("restart", unit) },
    ],
    stop: [{ command: command("disable", "--now", unit), optional: true }],
    forget: [{ command: command("daemon-reload"), optional: true }],
    status: { command: command("status", "--no-pager", unit) },
    logs: `journalctl ${system ? "" : "--user "}-u ${name} -f`,
    hints: system
      ? []
      : [`it runs while you are logged in; from the machine's start on:  loginctl enable-linger ${user}`],
  };
}

/** The unit. Source of its escapes: systemd.service(5) "Command lines", systemd.syntax(7) "Quoting", systemd.unit(5) "Specifiers". */
export function systemdUnit({ system, user }: Site, { about, command, env, stopTimeout }: Program): string {
  const [program, ...words] = command;
  if (/["'\\]/.test(program))
    throw new UsageError(`systemd starts no program with a quote or backslash in its path: ${program}`);
  // `$` is an escape in arguments only: the program itself cannot be a variable.
  const line = [quoted(program), ...words.map((word) => quoted(word.replaceAll("$", "$$$$")))].join(" ");
  const lines = [
    `# ${mark}`,
    "[Unit]",
    `Description=${escaped(about)}`,
    ...(system ? ["Wants=network-online.target", "After=network-online.target"] : []),
    // It never gives up for good.
    "StartLimitIntervalSec=0",
    "",
    "[Service]",
    ...(system ? [`User=${escaped(user)}`] : []),
    `ExecStart=${line}`,
    ...Object.entries(env).map(([name, value]) => `Environment=${quoted(`${name}=${value}`)}`),
    "Restart=always",
    "RestartSec=2",
    // A back-off; systemd before 254 does not know these two, says so and goes on.
    "RestartSteps=6",
    "RestartMaxDelaySec=60",
    // What is configured wrongly no repetition mends.
    "RestartPreventExitStatus=2",
    `TimeoutStopSec=${Math.ceil(stopTimeout / 1000)}`,
    "UMask=0077",
    ...(system ? [...hardening, ...systemHardening] : hardening),
    "",
    "[Install]",
    `WantedBy=${system ? "multi-user.target" : "default.target"}`,
  ];
  return `${lines.join("\n")}\n`;
}

/** What a user's own systemd can do without privileges. V8 makes code at run time: no MemoryDenyWriteExecute. */
const hardening = [
  "NoNewPrivileges=yes",
  "LockPersonality=yes",
  "RestrictRealtime=yes",
  "RestrictSUIDSGID=yes",
  "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
  "SystemCallArchitectures=native",
];

const systemHardening = [
  "ProtectSystem=strict",
  "ProtectHome=read-only",
  "PrivateTmp=yes",
  "PrivateDevices=yes",
  "ProtectClock=yes",
  "ProtectControlGroups=yes",
  "ProtectHostname=yes",
  "ProtectKernelLogs=yes",
  "ProtectKernelModules=yes",
  "ProtectKernelTunables=yes",
  "ProtectProc=invisible",
  "RestrictNamespaces=yes",
  "RemoveIPC=yes",
  "CapabilityBoundingSet=",
  "SystemCallFilter=@system-service",
];

function quoted(word: string): string {
  const text = escaped(word);
  return /^[\w/.:=@,+%$-]+$/.test(text) ? text : `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/** `%` begins a specifier everywhere in a unit. */
function escaped(text: string): string {
  return withoutControls(text).replaceAll("%", "%%");
}
