// `npm run test:traps`: tries the five traps of tunnels over HTTP/2 many times over, prints what came of it as a table,
// and exits 1 when one bites. `npm test` tries each a few times (test/tunnel/traps.test.ts).
import { traps } from "../test/support/tunnel-traps.ts";

const say = (line: string): void => void process.stdout.write(`${line}\n`);

say("| trap | repetitions | bitten | seconds |");
say("|---|---|---|---|");
let bitten = 0;
const told: string[] = [];
for (const { name, repetitions, run } of traps) {
  const begun = performance.now();
  const wrong = await run(repetitions).catch((error: unknown) => [
    `it could not be tried to its end: ${String(error)}`,
  ]);
  bitten += wrong.length;
  told.push(...wrong.map((problem) => `${name}: ${problem}`));
  say(`| ${name} | ${repetitions} | ${wrong.length} | ${((performance.now() - begun) / 1000).toFixed(1)} |`);
}
for (const line of told.slice(0, 50)) say(line);
say(bitten === 0 ? "no trap bites" : `${bitten} bites`);
process.exit(bitten === 0 ? 0 : 1);
