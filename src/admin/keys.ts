import { type IssuedKey, longestGrace, newKey, revokedKey, rotatedKey, usualGrace } from "../access/issue.ts";
import { readKeyFields, refuseUnknown, withFields } from "../access/key-fields.ts";
import { readImport } from "../access/key-import.ts";
import { toKeyJson } from "../access/key-json.ts";
import type { KeyRing } from "../access/key-ring.ts";
import { type Call, type Handler, jsonReply, type Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import { logText } from "../core/log-text.ts";
import { KeyConflict, type KeyRecord, type State, StateError } from "../state/state.ts";

interface Parts {
  readonly state: State;
  readonly ring: KeyRing;
}

type Answer = (parts: Parts, call: Call, idOrName: string) => Promise<Reply>;

/**
 * `/admin/keys`: GET lists (`?limit=100&after=<name>`), POST creates. Below it: GET `<id>`, POST `<id>` changes, POST
 * `<id>/rotate` and `<id>/revoke`, POST `import`. For an id, a name does as well. A key's text is in no reply but that of
 * create and rotate.
 */
export function keyRoutes(state: State, ring: KeyRing): Readonly<Record<string, Readonly<Record<string, Handler>>>> {
  const answer = (run: Answer, idOrName = (_call: Call) => ""): Handler => {
    return (call) => guarded(call, () => run({ state, ring }, call, idOrName(call)));
  };
  const below = answer(change, idOf);
  const actions: Readonly<Record<string, Handler>> = { rotate: answer(rotate, idOf), revoke: answer(revoke, idOf) };
  const bulk = answer(importKeys);
  return {
    "/admin/keys": { GET: answer(list), POST: answer(create) },
    "/admin/keys/": {
      GET: answer(show, idOf),
      POST: (call) => {
        const [id, action, ...more] = call.path.slice("/admin/keys/".length).split("/");
        if (id === "import" && action === undefined) return bulk(call);
        if (action === undefined) return below(call);
        const handler = Object.hasOwn(actions, action) && more.length === 0 ? actions[action] : undefined;
        if (handler !== undefined) return handler(call);
        throw new ApiError("unknown_url", "below /admin/keys/<id> there are rotate and revoke");
      },
    },
  };
}

/** Answers hold what is no cache's business, and the state's failures are told to those who keep it. */
async function guarded(call: Call, run: () => Promise<Reply>): Promise<Reply> {
  if (call.method === "POST" && call.principal?.id === "")
    throw new ApiError(
      "insufficient_scope",
      "this server asks nobody for a key yet, so keys are not made this way: `lair keys create NAME --role admin` makes the first",
    );
  try {
    const reply = await run();
    return { ...reply, headers: { ...reply.headers, "cache-control": "no-store" } };
  } catch (error) {
    if (error instanceof KeyConflict) throw new ApiError("invalid_value", error.message, { param: "name" });
    if (error instanceof StateError)
      throw new ApiError("service_unavailable", `the keys cannot be reached now: ${error.message}`, { cause: error });
    throw error;
  }
}

const longestPage = 1000;

async function list({ state }: Parts, call: Call): Promise<Reply> {
  const query = new URLSearchParams(call.search);
  const limit = Number(query.get("limit") ?? 100);
  if (!(Number.isInteger(limit) && limit >= 1 && limit <= longestPage))
    throw new ApiError("invalid_value", `limit must be a whole number from 1 to ${longestPage}`, { param: "limit" });
  const after = query.get("after") ?? "";
  const { keys } = await state.keys.since(0);
  const rest = keys.filter(({ name }) => name > after).sort((a, b) => (a.name < b.name ? -1 : 1));
  const page = rest.slice(0, limit);
  const used = await state.usage.lastUsed(page.map(({ id }) => id));
  const now = Date.now();
  const next = rest.length > limit ? (page.at(-1)?.name ?? null) : null;
  return jsonReply(200, { keys: page.map((key) => toKeyJson(key, now, used.get(key.id))), next });
}

async function show({ state }: Parts, _call: Call, idOrName: string): Promise<Reply> {
  const key = known(await state.keys.find(idOrName), idOrName);
  const used = await state.usage.lastUsed([key.id]);
  return jsonReply(200, toKeyJson(key, Date.now(), used.get(key.id)));
}

async function create({ state, ring }: Parts, call: Call): Promise<Reply> {
  const now = Date.now();
  const { name, ...fields } = readKeyFields(await call.json(), now);
  if (name === undefined) throw new ApiError("missing_required_parameter", "name is missing", { param: "name" });
  const issued = newKey({ name, ...fields }, now);
  await state.keys.insert([issued.record]);
  await ring.refresh();
  return issuedReply(201, issued);
}

async function importKeys({ state, ring }: Parts, call: Call): Promise<Reply> {
  const json = await objectOf(call);
  refuseUnknown(json, ["keys"], "");
  if (!Array.isArray(json.keys)) throw new ApiError("invalid_type", "keys must be a list", { param: "keys" });
  const entries = json.keys.map((one, index) => ({ place: `keys[${index}]`, json: one }));
  const records = readImport(entries, Date.now());
  await state.keys.insert(records);
  await ring.refresh();
  return jsonReply(201, { imported: records.length, keys: records.map(({ id, name }) => ({ id, name })) });
}

async function change({ state, ring }: Parts, call: Call, idOrName: string): Promise<Reply> {
  const now = Date.now();
  const fields = readKeyFields(await call.json(), now);
  const key = known(await state.keys.change(idOrName, (current) => withFields(current, fields)), idOrName);
  await ring.refresh();
  return jsonReply(200, toKeyJson(key, now));
}

async function rotate({ state, ring }: Parts, call: Call, idOrName: string): Promise<Reply> {
  const json = await objectOf(call);
  refuseUnknown(json, ["grace"], "");
  const grace = json.grace === undefined ? usualGrace : readGrace(json);
  const now = Date.now();
  let issued: IssuedKey | undefined;
  const key = await state.keys.change(idOrName, (current) => (issued = rotatedKey(current, now, grace)).record);
  known(key, idOrName);
  await ring.refresh();
  return issuedReply(200, issued as IssuedKey);
}

async function revoke({ state, ring }: Parts, call: Call, idOrName: string): Promise<Reply> {
  refuseUnknown(await objectOf(call), [], "");
  const now = Date.now();
  const key = known(await state.keys.change(idOrName, (current) => revokedKey(current, now)), idOrName);
  await ring.refresh();
  return jsonReply(200, toKeyJson(key, now));
}

function readGrace({ grace }: JsonObject): number {
  if (typeof grace === "number" && grace >= 0 && grace * 1000 <= longestGrace) return Math.round(grace * 1000);
  throw new ApiError("invalid_value", `grace must be seconds, from 0 to ${longestGrace / 1000}`, { param: "grace" });
}

function issuedReply(status: number, { record, text }: IssuedKey): Reply {
  return jsonReply(status, { key: text, ...toKeyJson(record, Date.now()) });
}

/** The body; none is an empty object. */
async function objectOf(call: Call): Promise<JsonObject> {
  if ((await call.bytes()).length === 0) return {};
  const json = await call.json();
  if (!isObject(json)) throw new ApiError("invalid_type", "the request body must be a JSON object");
  return json;
}

function idOf({ path }: Call): string {
  const [id = ""] = path.slice("/admin/keys/".length).split("/");
  try {
    return decodeURIComponent(id);
  } catch {
    throw new ApiError("invalid_value", "the key's name in the path is not validly percent-encoded");
  }
}

function known(key: KeyRecord | undefined, idOrName: string): KeyRecord {
  if (key !== undefined) return key;
  throw new ApiError(
    "unknown_url",
    `there is no key ${JSON.stringify(logText(idOrName.slice(0, 100)))}; GET /admin/keys lists them`,
  );
}
