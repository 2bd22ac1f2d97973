import type { DocumentStore } from "../state.ts";
import { takeRevisions } from "./counters.ts";
import type { Database } from "./database.ts";
import type { StateFile } from "./state-file.ts";
import { toBytes } from "./stored-text.ts";

export class SqliteDocuments implements DocumentStore {
  readonly #file: StateFile;

  constructor(file: StateFile) {
    this.#file = file;
  }

  read(name: string): Promise<string | undefined> {
    return this.#file.read((db) => readText(db, name));
  }

  async change(name: string, change: (text: string | undefined) => string): Promise<string> {
    const changed = await this.#file.write((db) => {
      const text = change(readText(db, name));
      const values = [toBytes(text, `the document ${name}`), takeRevisions(db, 1), name];
      const found = db.prepare("UPDATE documents SET text = ?, revision = ? WHERE name = ?").run(values);
      if (found === 0) db.prepare("INSERT INTO documents (text, revision, name) VALUES (?, ?, ?)").run(values);
      return text;
    });
    this.#file.changed();
    return changed;
  }

  watch(name: string, onChange: () => void): () => void {
    return this.#file.watch((db) => readRevision(db, name), onChange);
  }
}

function readText(db: Database, name: string): string | undefined {
  const row = db.prepare("SELECT text FROM documents WHERE name = ?").get([name]);
  return row?.[0]?.toString();
}

function readRevision(db: Database, name: string): number {
  return Number(db.prepare("SELECT revision FROM documents WHERE name = ?").get([name])?.[0] ?? 0);
}
