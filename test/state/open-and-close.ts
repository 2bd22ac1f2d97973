// A program that opens the state of the variable STATE, says so, and closes it when it is told to; it must end by itself then.
import { once } from "node:events";
import { silent } from "../../src/core/log.ts";
import { openState } from "../../src/open-state.ts";

const state = await openState(process.env["STATE"]!, { log: silent, replica: "child" });
state.keys.watch(() => undefined);
state.documents.watch("d", () => undefined);
await state.keys.since(0);
process.stdout.write("open\n");
await once(process.stdin, "data");
await state.close();
process.stdin.destroy();
