import { StateError } from "../state.ts";
import type { Database } from "./database.ts";

/** Marks the file as one of lair's (`PRAGMA application_id`): "lair" in ASCII. */
const applicationId = 0x6c616972;

/**
 * How the file came to be what it is: the schema of version N is what the first N of these make (`PRAGMA user_version`).
 * Released ones never change. Whole numbers are kept in columns for integers, as the drivers bind every number as a float.
 */
const migrations: readonly string[] = [
  `
  CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID, STRICT;

  -- What is written to see whether that works.
  CREATE TABLE probe (id INTEGER PRIMARY KEY, filler BLOB NOT NULL) STRICT;

  -- record: JSON of what has no column of its own.
  CREATE TABLE keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest BLOB NOT NULL UNIQUE, previous BLOB,
    revision INTEGER NOT NULL UNIQUE, record TEXT NOT NULL
  ) STRICT;
  CREATE INDEX keys_previous ON keys (previous) WHERE previous IS NOT NULL;

  CREATE TABLE documents (name TEXT PRIMARY KEY, revision INTEGER NOT NULL, text BLOB NOT NULL) STRICT;

  CREATE TABLE responses (
    principal TEXT NOT NULL, id TEXT NOT NULL, expires INTEGER NOT NULL, text BLOB NOT NULL,
    UNIQUE (principal, id)
  ) STRICT;
  CREATE INDEX responses_expires ON responses (expires);

  -- used: what is missing to the capacity; so a capacity that changes takes and gives nothing else.
  CREATE TABLE meters (
    id TEXT PRIMARY KEY, used REAL NOT NULL, time INTEGER NOT NULL, expires INTEGER NOT NULL
  ) WITHOUT ROWID, STRICT;
  CREATE TABLE holds (
    id TEXT NOT NULL, replica TEXT NOT NULL, count INTEGER NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (id, replica)
  ) WITHOUT ROWID, STRICT;

  -- begun: a batch of which the first records (done) are added; 0: none.
  CREATE TABLE writers (
    name TEXT PRIMARY KEY, sequence INTEGER NOT NULL, begun INTEGER NOT NULL, done INTEGER NOT NULL
  ) WITHOUT ROWID, STRICT;
  -- Keys, paths, models, providers and agents of records and sums, each once.
  CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
  -- Records that came together, as JSON: rows of numbers cost a fifth of what rows of SQLite do. Times are those of the earliest and the latest.
  CREATE TABLE batches (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL, records BLOB NOT NULL
  ) STRICT;
  CREATE INDEX batches_first ON batches (first);
  CREATE INDEX batches_last ON batches (last, sequence, first);
  -- Which batches have records of a key.
  CREATE TABLE batch_keys (
    key INTEGER NOT NULL, last INTEGER NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (key, last, sequence)
  ) WITHOUT ROWID, STRICT;
  -- day: since 1970, of UTC.
  CREATE TABLE sums (
    day INTEGER NOT NULL, key INTEGER NOT NULL, model INTEGER NOT NULL, provider INTEGER NOT NULL, agent INTEGER NOT NULL,
    requests INTEGER NOT NULL, failures INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, spend INTEGER NOT NULL, duration INTEGER NOT NULL,
    PRIMARY KEY (day, key, model, provider, agent)
  ) WITHOUT ROWID, STRICT;
  CREATE TABLE last_used (key INTEGER PRIMARY KEY, time INTEGER NOT NULL) STRICT;
  `,
];

/**
 * Brings the file to the newest schema, within the transaction that is open. True: it was empty before. Throws
 * `StateError`, and has changed nothing, when the file is a newer lair's or another program's.
 */
export function migrate(db: Database, place: string, steps: readonly string[] = migrations): boolean {
  const version = pragma(db, "user_version");
  assertOurs(db, place, steps.length);
  if (version === 0 && db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() !== undefined) throw foreign(place);
  for (const step of steps.slice(version)) db.exec(step);
  if (version < steps.length)
    db.exec(`PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${steps.length}`);
  return version === 0;
}

function assertOurs(db: Database, place: string, known: number): void {
  const [version, application] = [pragma(db, "user_version"), pragma(db, "application_id")];
  if (application !== applicationId && (application !== 0 || version !== 0)) throw foreign(place);
  if (version <= known) return;
  throw new StateError(
    `the state file ${place} was written by a newer lair (its schema is ${version}, this one knows ${known}): update this one, or name another file; nothing was changed`,
  );
}

function foreign(place: string): StateError {
  return new StateError(
    `${place} is an SQLite file of another program: name another file for lair's state; nothing was changed`,
  );
}

function pragma(db: Database, name: string): number {
  return Number(db.prepare(`PRAGMA ${name}`).get()?.[0] ?? 0);
}
