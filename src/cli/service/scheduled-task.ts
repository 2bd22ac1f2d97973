import { win32 } from "node:path";
import { UsageError } from "../command.ts";
import { mark, type Program, type Registration, type Site, toXml } from "./definition.ts";

/** How Windows is told of a service: a scheduled task, which unlike a true service any program can be. */
export function taskRegistration({ name, system, folder }: Site): Registration {
  const file = win32.join(folder, `${name}.xml`);
  return {
    file,
    encoding: "utf16le",
    start: [
      { command: ["schtasks.exe", "/End", "/TN", name], optional: true },
      { command: ["schtasks.exe", "/Create", "/TN", name, "/XML", file, "/F"] },
      { command: ["schtasks.exe", "/Run", "/TN", name] },
    ],
    stop: [
      { command: ["schtasks.exe", "/End", "/TN", name], optional: true },
      { command: ["schtasks.exe", "/Delete", "/TN", name, "/F"], optional: true },
    ],
    forget: [],
    status: { command: ["schtasks.exe", "/Query", "/TN", name, "/V", "/FO", "LIST"] },
    logs: `Get-Content -Wait "${logPath({ folder, name })}"          (PowerShell)`,
    hints: [
      "a task at logon may need a prompt that was opened as administrator, if Windows answers that access is denied",
      ...(system ? ["it runs as LOCAL SERVICE, which must be able to read the program's folder"] : []),
    ],
  };
}

/** Where the program writes its log: Windows keeps none for a task. */
export function logPath({ folder, name }: Pick<Site, "folder" | "name">): string {
  return win32.join(folder, `${name}.log`);
}

/**
 * The task. A logon starts it; so does every minute, which is nothing while it runs: the host without a window does not
 * pass on the exit code by which Windows would know a failure (microsoft/terminal #17178).
 */
export function taskXml({ system, user }: Site, { about, command, env }: Program): string {
  if (Object.keys(env).length > 0)
    throw new UsageError(`a scheduled task has no variables of its own: ${Object.keys(env).join(", ")}`);
  const who = system ? "S-1-5-19" : user;
  const [program, words] = system
    ? [command[0], command.slice(1)]
    : // A console program of a logged-in user would show its window (PowerShell/PowerShell #3028).
      [String.raw`%SystemRoot%\System32\conhost.exe`, ["--headless", ...command]];
  return `<?xml version="1.0" encoding="UTF-16"?>
<!-- ${mark} -->
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>${toXml(about)}</Description>
  </RegistrationInfo>
  <Triggers>
    ${system ? "<BootTrigger>\n      <Enabled>true</Enabled>\n    </BootTrigger>" : `<LogonTrigger>\n      <Enabled>true</Enabled>\n      <UserId>${toXml(who)}</UserId>\n    </LogonTrigger>`}
    <TimeTrigger>
      <Repetition>
        <Interval>PT1M</Interval>
        <StopAtDurationEnd>false</StopAtDurationEnd>
      </Repetition>
      <StartBoundary>2020-01-01T00:00:00</StartBoundary>
      <Enabled>true</Enabled>
    </TimeTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>${toXml(who)}</UserId>
${system ? "" : "      <LogonType>InteractiveToken</LogonType>\n"}      <RunLevel>${system ? "HighestAvailable" : "LeastPrivilege"}</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <AllowHardTerminate>true</AllowHardTerminate>
    <StartWhenAvailable>true</StartWhenAvailable>
    <RunOnlyIfNetworkAvailable>false</RunOnlyIfNetworkAvailable>
    <AllowStartOnDemand>true</AllowStartOnDemand>
    <Enabled>true</Enabled>
    <Hidden>false</Hidden>
    <RunOnlyIfIdle>false</RunOnlyIfIdle>
    <WakeToRun>false</WakeToRun>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>999</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>${toXml(program)}</Command>
      <Arguments>${toXml(words.map(quoted).join(" "))}</Arguments>
    </Exec>
  </Actions>
</Task>
`;
}

/**
 * One argument as `CommandLineToArgvW` takes it apart. Throws `UsageError` for what the task scheduler itself would
 * replace and cannot be told not to: `%NAME%` and `$(Arg0)`.
 */
function quoted(word: string): string {
  if (/%[^%]+%|\$\(/.test(word))
    throw new UsageError(
      `${JSON.stringify(word)} would be changed by Windows in a scheduled task: it must hold no %…% and no $(`,
    );
  if (/^[^\s"]+$/.test(word)) return word;
  // Backslashes count as themselves but before a quote (and the quote that ends the argument).
  return `"${word.replace(/(\\*)"/g, String.raw`$1$1\"`).replace(/\\+$/, "$&$&")}"`;
}
