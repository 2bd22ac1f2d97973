import { asksForKey } from "../config/exposure.ts";
import { type Loaded, loadConfig } from "../config/load.ts";
import type { Gateway } from "../gateway.ts";
import { type Command, exitCodes, plainText, readFlags, UsageError } from "./command.ts";
import { askOffers, offerText } from "./offers.ts";
import { flagLines, settingFlags } from "./setting-flags.ts";
import { listenText, type Output, runUntilStopped } from "./until-stopped.ts";
import { packageVersion } from "./version.ts";

export const gateway: Command = {
  help: `usage: lair gateway [flags]

The public front of relays, runtimes and other OpenAI-compatible servers: asks callers for a key, holds them to their
limits, counts what they use, and sends each call to an upstream that has its model. Keys are made by lair keys, also
while it runs; what was used is told by lair usage. While there is no key, it answers everybody on this machine, and
refuses to listen beyond it. Ctrl-C finishes the answers under way; a second Ctrl-C ends at once.

flags:
${flagLines("gateway").join("\n")}

examples:
  lair gateway --upstream http://127.0.0.1:8081
  lair gateway --upstream home=http://10.0.0.2:8081 --upstream office=http://10.0.0.3:18080
  lair keys create laptop && lair gateway --host 0.0.0.0 --upstream http://127.0.0.1:8081
  LAIR_STATE=redis://10.0.0.9:6379 lair gateway --host 0.0.0.0 --upstream http://127.0.0.1:8081
  $env:LAIR_STATE = 'D:\\lair\\state.db'; lair gateway --upstream http://127.0.0.1:8081      (PowerShell)

exit codes: 0 stopped when asked · 1 it failed · 2 the flags or the configuration are wrong ·
128 + n ended at once by a second signal n (Ctrl-C: 130)`,
  async run(args, terminal) {
    const { flags, words } = readFlags(args, settingFlags("gateway"));
    if (words.length > 0) throw new UsageError(`it takes flags only, not ${JSON.stringify(words[0])}`);
    const loaded = await loadConfig({ flags, command: "gateway", env: terminal.env });
    const { gateway: settings } = loaded.config;
    if (Object.keys(settings.upstreams).length === 0) {
      terminal.complain(
        "lair gateway: it has nothing to stand before: give it a relay or runtime, --upstream http://127.0.0.1:8081, or write gateway.upstreams into lair.yaml",
      );
      return exitCodes.usage;
    }
    return runUntilStopped(loaded, terminal, {
      command: "lair gateway",
      grace: settings.grace,
      start: async ({ log }) => {
        const { startGateway } = await import("../gateway.ts");
        return startGateway(loaded.config, log, { version: packageVersion(), env: terminal.env });
      },
      announce: (running, output) => announce(running, loaded, output),
      startText: (error) =>
        listenText(error, { ...settings, usual: 8082 }) ?? (error instanceof Error ? error.message : String(error)),
      // A terminal that is closed says the same.
      ...(terminal.interactive ? {} : { onHangup: (running: Gateway) => running.reload() }),
    });
  },
};

function announce(running: Gateway, loaded: Loaded, output: Output): void {
  const { url, place, upstreams } = running;
  const { log, terminal, pretty } = output;
  const { tls } = loaded.config.gateway;
  if (pretty) terminal.print(`\nLocal AI Runtime ${packageVersion()}, gateway, is ready: ${url}/v1\n`);
  else
    log.info(
      {
        url,
        seconds: Number((performance.now() / 1000).toFixed(2)),
        file: loaded.file,
        tls: tls.cert !== undefined,
        upstreams: upstreams.length,
        state: place,
        asksForKey: running.asksForKey,
      },
      "ready",
    );
  void announceUpstreams(running, loaded, output);
}

/** Says what each upstream offers, when it has told or its time to tell is over; the gateway answers already. */
async function announceUpstreams(running: Gateway, { config }: Loaded, output: Output): Promise<void> {
  const { log, terminal, pretty } = output;
  const whereOf = (name: string): string => config.gateway.upstreams[name]?.urls.join(", ") ?? name;
  const offers = await askOffers(running.upstreams, whereOf, config.timeouts.probe);
  if (!pretty) {
    for (const { name, where, models, problem } of offers)
      log.info({ upstream: name, where, models: models.length, problem }, "upstream");
    return;
  }
  const { tls } = config.gateway;
  const rows = [
    ...offers.map((offer) => [offer.name, offerText(offer)]),
    ["TLS", tls.cert ?? "none: for this machine, or behind a front that has it"],
    ["callers", running.asksForKey ? "need a key" : "need no key, as there is none yet"],
    ["state", running.place ?? "none: no managed keys, no limits, no usage"],
  ];
  const width = Math.max(9, ...rows.map(([name = ""]) => name.length));
  for (const [name = "", text = ""] of rows) terminal.print(`  ${name.padEnd(width)} ${plainText(text)}`);
  for (const line of nextSteps(running, asksForKey(config))) terminal.print(line);
}

/** What to do next, as long as nobody needs a key, or the only keys are those of a state. */
function nextSteps({ url, place, asksForKey: closed }: Gateway, tokens: boolean): string[] {
  if (place === undefined || tokens) return [""];
  const call = `curl ${url}/v1/models -H "Authorization: Bearer $KEY"`;
  return closed ? ["", `Try it with a key:  ${call}`, ""] : ["", "Next:  lair keys create NAME", `then:  ${call}`, ""];
}
