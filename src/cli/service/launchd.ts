import { posix } from "node:path";
import { mark, type Program, type Registration, type Site, toXml } from "./definition.ts";

/** How launchd is told of a service: an agent of the user's, or a daemon of the machine. */
export function launchdRegistration(site: Site): Registration {
  const { system, uid, home, name } = site;
  const domain = system ? "system" : `gui/${uid ?? 501}`;
  const target = `${domain}/${label(name)}`;
  const folder = system ? "/Library/LaunchDaemons" : posix.join(home, "Library", "LaunchAgents");
  const file = posix.join(folder, `${label(name)}.plist`);
  return {
    file,
    encoding: "utf8",
    start: [
      { command: ["launchctl", "enable", target] },
      { command: ["launchctl", "bootout", target], optional: true },
      { command: ["launchctl", "bootstrap", domain, file] },
    ],
    stop: [{ command: ["launchctl", "bootout", target], optional: true }],
    forget: [],
    status: { command: ["launchctl", "print", target] },
    logs: `tail -f ${shellWord(logPath(site))}`,
    hints: system
      ? []
      : ["it runs while you are logged in; from the machine's start on: install it with sudo and --system"],
  };
}

/** The property list. Source of its keys: launchd.plist(5). */
export function launchdPlist(site: Site, { about, command, env, stopTimeout }: Program): string {
  const { name, system, user } = site;
  const pairs: [key: string, value: string][] = [
    ["Label", string(label(name))],
    ["ProgramArguments", list(command)],
    ...(system ? [["UserName", string(user)] satisfies [string, string]] : []),
    ...(Object.keys(env).length > 0 ? [["EnvironmentVariables", map(env)] satisfies [string, string]] : []),
    ["RunAtLoad", "<true/>"],
    ["KeepAlive", "<true/>"],
    // The pause before it is started anew, in seconds.
    ["ThrottleInterval", "<integer>10</integer>"],
    ["ExitTimeOut", `<integer>${Math.ceil(stopTimeout / 1000)}</integer>`],
    ["ProcessType", string("Background")],
    // 077, which a property list says in decimal.
    ["Umask", "<integer>63</integer>"],
    ["StandardOutPath", string(logPath(site))],
    ["StandardErrorPath", string(logPath(site))],
  ];
  return `<?xml version="1.0" encoding="UTF-8"?>
<!-- ${mark} ${toXml(about).replaceAll("--", "- -")} -->
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
${pairs.map(([key, value]) => `  <key>${key}</key>\n  ${value}`).join("\n")}
</dict>
</plist>
`;
}

function label(name: string): string {
  return `local-ai-runtime.${name}`;
}

function logPath({ system, home, name }: Site): string {
  return posix.join(system ? "/Library/Logs" : posix.join(home, "Library", "Logs"), `${name}.log`);
}

function string(text: string): string {
  return `<string>${toXml(text)}</string>`;
}

function list(texts: readonly string[]): string {
  return `<array>\n${texts.map((text) => `    ${string(text)}\n`).join("")}  </array>`;
}

function map(texts: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(texts).map(([key, text]) => `    <key>${toXml(key)}</key>\n    ${string(text)}\n`);
  return `<dict>\n${pairs.join("")}  </dict>`;
}

function shellWord(text: string): string {
  return /^[\w/.-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
