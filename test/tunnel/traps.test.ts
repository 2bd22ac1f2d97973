import { expect, test } from "vitest";
import { traps } from "../support/tunnel-traps.ts";

// A few times each; `npm run test:traps` is the long form.
test.each(traps.map((trap) => [trap.name, trap] as const))("%s", { timeout: 90_000 }, async (_name, { few, run }) => {
  expect(await run(few)).toEqual([]);
});
