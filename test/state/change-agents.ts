// Another process at the same file, started by the tests: add-agents PATH PREFIX COUNT
import { AgentKeys } from "../../src/state/agent-keys.ts";

const [path = "", prefix = "", count = "0"] = process.argv.slice(2);
const keys = new AgentKeys(path);
process.stdout.write("ready\n");
for (let turn = 0; turn < Number(count); turn++) await keys.add(`${prefix}${turn}`);
