// Another process at the same file, started by the tests. It registers COUNT agents, then says so and goes on adding
// and removing one until it is killed, if it is asked to: change-agents PATH PREFIX COUNT [on]
import { AgentKeys } from "../../src/state/agent-keys.ts";

const [path = "", prefix = "", count = "0", on] = process.argv.slice(2);
const keys = new AgentKeys(path);
process.stdout.write("ready\n");
for (let turn = 0; turn < Number(count); turn++) await keys.add(`${prefix}${turn}`);
while (on !== undefined) {
  await keys.add(`${prefix}more`);
  await keys.remove(`${prefix}more`);
}
