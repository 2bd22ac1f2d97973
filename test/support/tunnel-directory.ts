import type { AgentSession } from "../../src/core/agent-session.ts";
import { type RunningServer, listen } from "../../src/http/server.ts";
import { HttpClient } from "../../src/providers/http-client.ts";
import type { Directory } from "../../src/tunnel/relay/directory.ts";
import type { FleetSettings } from "../../src/tunnel/relay/fleet.ts";
import { startFleet, type TestFleet } from "./tunnel-fleet.ts";

/** What relays of a test tell each other, at once or, while `held`, only to those who read it once more. */
export class Board {
  held = false;
  readonly entries = new Map<string, AgentSession>();
  readonly #readers = new Set<() => void>();

  directory(): TestDirectory {
    const directory = new TestDirectory(this);
    this.#readers.add(() => directory.read());
    return directory;
  }

  tell(): void {
    if (!this.held) for (const read of this.#readers) read();
  }
}

class TestDirectory implements Directory {
  readonly sessions = new Map<string, AgentSession>();
  readonly dropped: string[] = [];
  rereads = 0;
  readonly #board: Board;
  #relay = "";
  #own: () => readonly AgentSession[] = () => [];
  #onChange: () => void = () => undefined;

  constructor(board: Board) {
    this.#board = board;
  }

  open(relay: string, own: () => readonly AgentSession[], onChange: () => void): void {
    this.#relay = relay;
    this.#own = own;
    this.#onChange = onChange;
    this.touch();
  }

  touch(): void {
    const { entries } = this.#board;
    for (const [id, { relay }] of entries) if (relay === this.#relay) entries.delete(id);
    for (const session of this.#own()) entries.set(session.id, session);
    this.#board.tell();
  }

  drop(sessions: readonly AgentSession[]): void {
    for (const { id, epoch } of sessions) {
      this.dropped.push(id);
      this.sessions.delete(id);
      if (this.#board.entries.get(id)?.epoch === epoch) this.#board.entries.delete(id);
    }
    this.#onChange();
  }

  reread(): Promise<void> {
    this.rereads++;
    this.read();
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#own = () => [];
    this.touch();
    return Promise.resolve();
  }

  read(): void {
    this.sessions.clear();
    for (const session of this.#board.entries.values())
      if (session.relay !== this.#relay) this.sessions.set(session.id, session);
    this.#onChange();
  }
}

/** A fleet that answers calls of the others on the board. */
export interface SharingFleet extends TestFleet {
  readonly directory: TestDirectory;
  readonly server: RunningServer;
  /** Where it takes calls of the others. */
  readonly url: string;
  close(): Promise<void>;
}

export const sharedSecret = Buffer.from("a secret that all relays of the tests share");

export async function startSharing(board: Board, settings: Partial<FleetSettings> = {}): Promise<SharingFleet> {
  const directory = board.directory();
  let one: TestFleet | undefined;
  const server = await listen({
    host: "127.0.0.1",
    port: 0,
    handler: (call) => (one as TestFleet).fleet.hops!(call),
    log: { debug() {}, info() {}, warn() {}, error: (fields, message) => console.error(message, fields) },
    bodyLimit: 64 * 1024 * 1024,
    headerLimit: 32 * 1024,
    headersTimeout: 5000,
    requestTimeout: 5000,
    keepAliveTimeout: 5000,
    stallTimeout: 5000,
  });
  const url = `http://127.0.0.1:${server.port}`;
  const connect = (origin: string): HttpClient => new HttpClient({ origin, connectTimeout: 2000 });
  one = startFleet({ sharing: { directory, url, secret: sharedSecret, connect }, ...settings });
  const close = async (): Promise<void> => {
    await one.fleet.close();
    await server.close(0);
  };
  return { ...one, directory, server, url, close };
}
