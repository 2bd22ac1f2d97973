import { StateError } from "../state.ts";

/** What is written into a column, and read from one. Whole numbers up to 2^53 are exact in a column for integers. */
export type Value = string | number | Buffer | null;
export type Row = readonly Value[];

export interface Statement {
  /** Returns how many rows it has changed. */
  run(values?: readonly Value[]): number;
  /** The first row, as an array of its columns. */
  get(values?: readonly Value[]): Row | undefined;
  all(values?: readonly Value[]): Row[];
}

/** The part of an SQLite library that the state needs. Everything is synchronous; failures carry SQLite's code (`sqliteCode`). */
export interface Database {
  exec(sql: string): void;
  /** The statement is kept, and is the same for the same text. */
  prepare(sql: string): Statement;
  close(): void;
}

export const drivers = ["libsql", "node:sqlite"] as const;
export type Driver = (typeof drivers)[number];
export type OpenDatabase = (path: string) => Database;

/**
 * The SQLite library that there is here: `libsql` where npm has installed it, else Node's own. Throws `StateError` where
 * there is none.
 */
export async function loadDriver(wanted: readonly Driver[] = drivers): Promise<OpenDatabase> {
  for (const driver of wanted) {
    const open = driver === "libsql" ? await loadLibsql() : loadNodeSqlite();
    if (open !== undefined) return open;
  }
  throw new StateError(
    `no SQLite library is installed for Node ${process.version} on ${process.platform}-${process.arch}: install again ` +
      "with optional dependencies (npm install --include=optional), use Node 22.13 or newer, or set LAIR_STATE to a Redis",
  );
}

/** SQLite's primary result code (https://www.sqlite.org/rescode.html) of what a driver has thrown; undefined: it is none of SQLite's. */
export function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  const { rawCode, errcode } = error as { rawCode?: unknown; errcode?: unknown };
  const code = rawCode ?? errcode;
  if (typeof code === "number") return code & 0xff;
  // libsql gives no code where it cannot open the file, only this text.
  const opening = /^ConnectionFailed\(".*: (\d+)"\)$/s.exec(error.message)?.[1];
  return opening === undefined ? undefined : Number(opening) & 0xff;
}

async function loadLibsql(): Promise<OpenDatabase | undefined> {
  try {
    const { default: Libsql } = await import("libsql");
    return (path) => toDatabase(new Libsql(path), fromLibsql);
  } catch {
    // Not installed, or without a package for this machine.
    return undefined;
  }
}

interface NodeStatement {
  run(...values: readonly Value[]): { changes: number | bigint };
  get(...values: readonly Value[]): Record<string, unknown> | undefined;
  all(...values: readonly Value[]): Record<string, unknown>[];
  /** From Node 22.16 and 24.0 on. */
  setReturnArrays?(on: boolean): void;
}

interface NodeSqlite {
  readonly DatabaseSync: new (path: string) => Library<NodeStatement>;
}

interface Library<LibraryStatement> {
  exec(sql: string): unknown;
  prepare(sql: string): LibraryStatement;
  close(): unknown;
}

function loadNodeSqlite(): OpenDatabase | undefined {
  // Not imported: bundlers and Node 20 know no such module. Before 22.13 it is behind a flag.
  const library = process.getBuiltinModule("node:sqlite" as "node:fs") as unknown as NodeSqlite | undefined;
  return library === undefined ? undefined : (path) => toDatabase(new library.DatabaseSync(path), fromNode);
}

function toDatabase<LibraryStatement>(
  library: Library<LibraryStatement>,
  toStatement: (statement: LibraryStatement) => Statement,
): Database {
  const statements = new Map<string, Statement>();
  const db = {
    exec: (sql: string) => void library.exec(sql),
    prepare(sql: string) {
      let statement = statements.get(sql);
      if (statement === undefined) statements.set(sql, (statement = toStatement(library.prepare(sql))));
      return statement;
    },
    close() {
      // A statement of libsql goes on working after this, and would write into a file that is somebody else's by now.
      statements.clear();
      library.close();
    },
  };
  return db;
}

interface LibsqlStatement {
  readonly reader: boolean;
  raw(): unknown;
  run(values: readonly Value[]): { changes: number };
  get(values: readonly Value[]): unknown;
  all(values: readonly Value[]): unknown[];
}

/** Values go in as one array: a single one that is an object would be taken for named parameters, and end the process. */
function fromLibsql(statement: unknown): Statement {
  const library = statement as LibsqlStatement;
  if (library.reader) library.raw();
  return {
    run: (values = []) => library.run(values).changes,
    get: (values = []) => library.get(values) as Row | undefined,
    all: (values = []) => library.all(values) as Row[],
  };
}

function fromNode(statement: NodeStatement): Statement {
  statement.setReturnArrays?.(true);
  return {
    run: (values = []) => Number(statement.run(...values).changes),
    get(values = []) {
      const row = statement.get(...values);
      return row === undefined ? undefined : toRow(row);
    },
    all: (values = []) => statement.all(...values).map(toRow),
  };
}

/** As libsql gives it: arrays, and bytes as a Buffer. */
function toRow(row: Record<string, unknown> | unknown[]): Row {
  const values = Array.isArray(row) ? row : Object.values(row);
  for (const [index, value] of values.entries()) {
    if (value instanceof Uint8Array) values[index] = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  }
  return values as Value[];
}
