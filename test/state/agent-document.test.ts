import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silent } from "../../src/core/log.ts";
import { openState } from "../../src/open-state.ts";
import { openAgentDocument } from "../../src/state/agent-document.ts";
import { AgentKeys } from "../../src/state/agent-keys.ts";
import { type DocumentStore, StateError } from "../../src/state/state.ts";
import { waitUntil } from "../support/tunnel-log.ts";

const opened: AgentKeys[] = [];
afterEach(() => {
  for (const keys of opened.splice(0)) keys.close();
});

async function open(documents: DocumentStore): Promise<AgentKeys> {
  const keys = new AgentKeys(await openAgentDocument({ documents, place: "the test" }));
  opened.push(keys);
  return keys;
}

describe("agents of a shared state", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "lair-agents-"));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  test("are the same for every process: keys that are made, used and revoked", async () => {
    const place = path.join(folder, "state.db");
    const states = await Promise.all(["one", "other"].map((replica) => openState(place, { log: silent, replica })));
    try {
      const [one, other] = [await open(states[0]!.documents), await open(states[1]!.documents)];
      let told = 0;
      other.watch(() => void told++);
      const { key } = await one.add("home");
      // Before it is told, whoever asks finds it.
      await other.refresh();
      const identity = other.authenticate(key);
      expect([identity?.name, identity?.refusal()]).toEqual(["home", undefined]);
      await waitUntil(() => told > 1, "the other is told");
      await other.rotate("home");
      expect(await one.revoke("home", "k1")).toEqual(["k1"]);
      await waitUntil(() => identity?.refusal() !== undefined, "the key is refused");
      expect(other.list()[0]?.keys.map(({ id, revoked }) => [id, revoked !== undefined])).toEqual([
        ["k1", true],
        ["k2", false],
      ]);
    } finally {
      await Promise.all(states.map((state) => state.close()));
    }
  });
});

describe("a list of agents that", () => {
  let store: MemoryDocuments;
  beforeEach(() => {
    store = new MemoryDocuments();
  });

  test("the state has lost is put back, and nobody is cut off", async () => {
    const keys = await open(store);
    keys.watch(() => undefined);
    const { key } = await keys.add("home");
    const identity = keys.authenticate(key);
    store.text = undefined;
    store.tell();
    await waitUntil(() => store.text !== undefined, "it is back");
    expect(identity?.refusal()).toBeUndefined();
    expect((await open(store)).authenticate(key)?.name).toBe("home");
  });

  test("cannot be read for a while is as it was", async () => {
    const keys = await open(store);
    keys.watch(() => undefined);
    const { key } = await keys.add("home");
    store.away = true;
    store.tell();
    await keys.refresh();
    expect(keys.authenticate(key)?.refusal()).toBeUndefined();
    await expect(keys.add("work")).rejects.toThrow(StateError);
  });

  test("somebody has spoilt lets nobody in, until it is mended", async () => {
    const keys = await open(store);
    keys.watch(() => undefined);
    const { key } = await keys.add("home");
    const good = store.text;
    store.text = "{";
    store.tell();
    await keys.refresh();
    await expect(open(store)).rejects.toThrow(
      "the list of agents in the test cannot be used, and no agent may connect",
    );
    await expect(keys.add("work")).rejects.toThrow("cannot be used");
    store.text = good;
    await keys.refresh();
    expect(keys.authenticate(key)?.name).toBe("home");
  });

  test("takes in another one with its keys, all or none", async () => {
    const [keys, before] = [await open(store), await open(new MemoryDocuments())];
    const { key } = await before.add("home");
    await before.add("work");
    await keys.add("work");
    const others = new Map(before.list().map((agent) => [agent.name, agent]));
    await expect(keys.adopt(others)).rejects.toThrow("there is an agent work already; nothing was taken over");
    expect(keys.has("home")).toBe(false);
    await keys.remove("work");
    await keys.adopt(others);
    expect([keys.has("work"), keys.authenticate(key)?.name]).toEqual([true, "home"]);
  });
});

/** One document, which a test can lose, spoil and keep away. */
class MemoryDocuments implements DocumentStore {
  text: string | undefined;
  away = false;
  readonly #watchers = new Set<() => void>();

  read(): Promise<string | undefined> {
    return this.away ? Promise.reject(new StateError("the state is away")) : Promise.resolve(this.text);
  }

  async change(_name: string, change: (text: string | undefined) => string): Promise<string> {
    await this.read();
    this.text = change(this.text);
    this.tell();
    return this.text;
  }

  watch(_name: string, onChange: () => void): () => void {
    this.#watchers.add(onChange);
    return () => void this.#watchers.delete(onChange);
  }

  tell(): void {
    for (const watcher of this.#watchers) watcher();
  }
}
