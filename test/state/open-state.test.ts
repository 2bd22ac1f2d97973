import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, it } from "vitest";
import { silent } from "../../src/core/log.ts";
import { openState } from "../../src/open-state.ts";
import { StateError } from "../../src/state/state.ts";

const folder = mkdtempSync(path.join(tmpdir(), "lair-open-state-"));
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

it.each(["state.db", "sqlite:again.db"])("a path opens a file, with the scheme or without it: %s", async (name) => {
  const [scheme, file] = name.includes(":") ? ["sqlite:", "again.db"] : ["", name];
  const state = await openState(`${scheme}${path.join(folder, file!)}`, { log: silent, replica: "one" });
  expect(state).toMatchObject({ kind: "sqlite", place: path.join(folder, file!) });
  await state.close();
});

it.each(["postgres://ana:planted-secret@host/db", "http://host", "file:///state.db"])(
  "%s opens nothing",
  async (url) => {
    const opening = openState(url, { log: silent, replica: "one" });
    await expect(opening).rejects.toThrow(StateError);
    await expect(opening).rejects.toThrow(/^\w+: is no state; give the path of a file, or redis:/);
  },
);
