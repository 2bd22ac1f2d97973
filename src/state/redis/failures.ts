/** Why Redis cannot be used now, for the operator. */
export interface RedisProblem {
  readonly text: string;
  /** Nothing but a change by the operator mends it. */
  readonly lasting: boolean;
  /** It answers, but takes no writes. */
  readonly writing?: boolean;
}

/** Oldest version that still was mended when this was written; the commands would do with 5. Valkey and KeyDB say a version of Redis, too. */
const oldest = [6, 2] as const;

/** The beginnings of Redis's own error replies, with what to do. Source: redis/src/server.c, `createSharedObjects`. */
const replies: readonly (readonly [beginning: RegExp, text: string, lasting: boolean])[] = [
  [/^NOAUTH/, "asks for a password: write it into the address, redis://:password@host", true],
  [/^(WRONGPASS|ERR invalid password|ERR AUTH)/, "does not take the user or password of the address", true],
  [
    /^NOPERM/,
    "does not allow this user what is needed: all commands on keys and channels of the prefix, and INFO",
    true,
  ],
  [/^DENIED/, "is in protected mode: set a password there, and write it into the address", true],
  [/^OOM/, "is full (maxmemory): give it more memory, or lower ?records= in the address", false],
  [/^READONLY/, "is a replica that takes no writes: give the address of the primary", false],
  [/^LOADING/, "is loading its data", false],
  [/^MISCONF/, "takes no writes, since it cannot save to its disk: see its log", false],
  [/^MASTERDOWN/, "is a replica without its primary", false],
  [
    /^(MOVED|ASK|CLUSTERDOWN|CROSSSLOT)/,
    "is a cluster whose other node has the keys: give the address of that node",
    true,
  ],
  [/^BUSY/, "is busy with a script", false],
  [/^WRONGTYPE/, "has other things under this program's keys: choose another ?prefix= in the address", true],
];

/** What an error of the client or a reply of the server means. Never holds a password. */
export function toProblem(error: Error): RedisProblem {
  // Before Redis 7 an error inside of a script came wrapped in words of its own.
  const message = error.message.replace(/^ERR Error running script .*?-([A-Z]{3,} )/, "$1");
  const known = replies.find(([beginning]) => beginning.test(message));
  const writing = /^(OOM|READONLY|MISCONF)/.test(message);
  const [, node] = /^MOVED \d+ (\S{1,100})$/.exec(message) ?? [];
  if (node !== undefined)
    return { text: `is a cluster whose node ${node} has the keys: give its address`, lasting: true };
  if (known !== undefined) return { text: known[1], lasting: known[2], writing };
  const code = (error as NodeJS.ErrnoException).code ?? "";
  if (/protocol error|as reply type|unknown RESP type/i.test(message)) {
    return { text: "is something else: what it says is no word of Redis's protocol", lasting: true };
  }
  if (/^(ERR_TLS|CERT_|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO_|EPROTO|ERR_SSL)/.test(code)) {
    return {
      text: `cannot be reached by TLS (${code}): the file of its authority goes into ?ca= of the address`,
      lasting: true,
    };
  }
  if (code === "ETIMEDOUT") return { text: "does not answer", lasting: false };
  if (code === "ENOTFOUND" || code === "ENOENT") return { text: `is not there (${code})`, lasting: false };
  if (/^E[A-Z]+$/.test(code)) return { text: `cannot be reached (${code})`, lasting: false };
  if (/^(Connection is closed|Reached the max retries|Command aborted)/.test(message)) {
    return { text: "went away before it answered", lasting: false };
  }
  return { text: `refuses: ${message.slice(0, 200)}`, lasting: false };
}

/** What a server says of itself by INFO, as far as it matters; `problem` when it cannot be used. */
export function readServer(text: string): {
  readonly run: string;
  readonly problem?: RedisProblem;
  readonly warning?: string;
} {
  const fields = new Map(
    text.split(/\r?\n/).flatMap((line) => {
      const colon = line.indexOf(":");
      return colon < 1 ? [] : [[line.slice(0, colon), line.slice(colon + 1)] as const];
    }),
  );
  const run = fields.get("run_id") ?? "";
  const problem = judge(fields);
  if (problem !== undefined) return { run, problem };
  const policy = fields.get("maxmemory_policy") ?? "noeviction";
  if (fields.get("maxmemory") === "0" || policy === "noeviction") return { run };
  return { run, warning: `forgets keys when it is full (maxmemory-policy ${policy.slice(0, 40)}): set noeviction` };
}

function judge(fields: ReadonlyMap<string, string>): RedisProblem | undefined {
  const version = fields.get("redis_version") ?? "";
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (!/^\d+\./.test(version)) return { text: "says no version: it is no Redis or Valkey", lasting: true };
  if (major < oldest[0] || (major === oldest[0] && minor < oldest[1])) {
    const text = `is version ${version.slice(0, 20)}, too old: Redis ${oldest.join(".")} or newer is needed, best Redis 7 or Valkey`;
    return { text, lasting: true };
  }
  if (fields.get("role") === "slave") return { text: "is a replica: give the address of the primary", lasting: true };
  if (fields.get("loading") === "1") return { text: "is loading its data", lasting: false };
  return undefined;
}
