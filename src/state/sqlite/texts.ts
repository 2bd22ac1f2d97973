import type { Database } from "./database.ts";

/** Most texts of one connection that are remembered. */
const mostRemembered = 50_000;

interface Remembered {
  readonly ids: Map<string, number>;
  readonly texts: Map<number, string>;
}

/** Texts that stand in many rows, each kept once and named there by its number. A number is never given to another text. */
export class Texts {
  readonly #remembered = new WeakMap<Database, Remembered>();

  /** Undefined: no row has it. */
  find(db: Database, given: string): number | undefined {
    const text = toColumn(given);
    const known = this.#of(db).ids.get(text);
    if (known !== undefined) return known;
    const row = db.prepare("SELECT id FROM texts WHERE text = ?").get([text]);
    if (row === undefined) return undefined;
    this.remember(db, [[text, Number(row[0])]]);
    return Number(row[0]);
  }

  /** Within a transaction. What is new is added to `fresh`, to be remembered once the transaction has come to its end. */
  take(db: Database, given: string, fresh: Map<string, number>): number {
    const text = toColumn(given);
    const known = fresh.get(text) ?? this.find(db, text);
    if (known !== undefined) return known;
    const id = Number(db.prepare("INSERT INTO texts (text) VALUES (?) RETURNING id").get([text])![0]);
    fresh.set(text, id);
    return id;
  }

  read(db: Database, id: number): string {
    const known = this.#of(db).texts.get(id);
    if (known !== undefined) return known;
    const text = db.prepare("SELECT text FROM texts WHERE id = ?").get([id])?.[0]?.toString() ?? "";
    this.remember(db, [[text, id]]);
    return text;
  }

  remember(db: Database, fresh: Iterable<readonly [string, number]>): void {
    const { ids, texts } = this.#of(db);
    if (ids.size > mostRemembered) {
      ids.clear();
      texts.clear();
    }
    for (const [text, id] of fresh) {
      ids.set(text, id);
      texts.set(id, text);
    }
  }

  #of(db: Database): Remembered {
    let remembered = this.#remembered.get(db);
    if (remembered === undefined) this.#remembered.set(db, (remembered = { ids: new Map(), texts: new Map() }));
    return remembered;
  }
}

/** As it comes back: libsql ends a text at its first NUL, and half of a pair of surrogates is no text. */
function toColumn(text: string): string {
  return /[\0\ud800-\udfff]/.test(text) ? Buffer.from(text).toString().replaceAll("\0", "\uFFFD") : text;
}
