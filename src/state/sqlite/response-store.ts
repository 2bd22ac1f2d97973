import type { ResponseStore } from "../state.ts";
import type { Database } from "./database.ts";
import type { StateFile } from "./state-file.ts";
import { toBytes } from "./stored-text.ts";

/** Each new response makes room for this many others that are over, so that no step takes long. */
const forgottenAtOnce = 4;

export class SqliteResponses implements ResponseStore {
  readonly #file: StateFile;
  readonly #now: () => number;

  constructor(file: StateFile, now: () => number) {
    this.#file = file;
    this.#now = now;
  }

  async put(principal: string, id: string, text: string, lifetime: number): Promise<void> {
    const bytes = toBytes(text, `the response ${id}`);
    const now = Math.floor(this.#now());
    await this.#file.write((db) => {
      forget(db, now);
      db.prepare("DELETE FROM responses WHERE principal = ? AND id = ?").run([principal, id]);
      const values = [principal, id, now + Math.ceil(lifetime), bytes];
      db.prepare("INSERT INTO responses (principal, id, expires, text) VALUES (?, ?, ?, ?)").run(values);
    });
  }

  get(principal: string, id: string): Promise<string | undefined> {
    return this.#file.read((db) => {
      const values = [principal, id, this.#now()];
      const row = db.prepare("SELECT text FROM responses WHERE principal = ? AND id = ? AND expires > ?").get(values);
      return row?.[0]?.toString();
    });
  }

  async delete(principal: string, id: string): Promise<boolean> {
    const values = [principal, id, this.#now()];
    const deleted = await this.#file.write((db) =>
      db.prepare("DELETE FROM responses WHERE principal = ? AND id = ? AND expires > ?").run(values),
    );
    return deleted > 0;
  }
}

function forget(db: Database, now: number): void {
  const over = db.prepare("SELECT rowid FROM responses WHERE expires <= ? LIMIT ?").all([now, forgottenAtOnce]);
  for (const row of over) db.prepare("DELETE FROM responses WHERE rowid = ?").run(row);
}
