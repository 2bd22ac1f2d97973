import { type ResponseStore, StateError } from "../state/state.ts";

/** Longest text in bytes, as in every other store. */
const longestText = 8 * 1024 * 1024;
/** What an entry costs besides its text, in bytes: its keys, and its place in the maps. */
const overhead = 256;

interface Entry {
  readonly text: Buffer;
  readonly until: number;
  readonly size: number;
}

interface Holding {
  /** The oldest first. */
  readonly entries: Map<string, Entry>;
  size: number;
}

/**
 * Responses of a server without a state: in its memory, at most `most` bytes of them. Where there is no room left, the
 * principal that holds the most gives up its oldest, so that nobody can push out what others have. `now`: its clock.
 */
export function memoryStore(most: number, now: () => number = Date.now): ResponseStore {
  const holdings = new Map<string, Holding>();
  let total = 0;
  const drop = (principal: string, id: string): boolean => {
    const holding = holdings.get(principal);
    const entry = holding?.entries.get(id);
    if (holding === undefined || entry === undefined) return false;
    holding.entries.delete(id);
    holding.size -= entry.size;
    total -= entry.size;
    if (holding.entries.size === 0) holdings.delete(principal);
    return entry.until > now();
  };
  const makeRoom = (size: number): void => {
    while (total + size > most) {
      const [principal, { entries }] = [...holdings].reduce((one, other) =>
        other[1].size > one[1].size ? other : one,
      );
      const [oldest = ""] = entries.keys();
      drop(principal, oldest);
    }
  };
  const put = (principal: string, id: string, text: string, lifetime: number): void => {
    const bytes = Buffer.from(text);
    const size = overhead + bytes.length + id.length;
    if (bytes.length > longestText || size > most)
      throw new StateError(`a response of ${bytes.length} bytes is too long to be kept in memory`);
    drop(principal, id);
    makeRoom(size);
    const holding = holdings.get(principal) ?? { entries: new Map<string, Entry>(), size: 0 };
    holdings.set(principal, holding);
    holding.entries.set(id, { text: bytes, until: now() + lifetime, size });
    holding.size += size;
    total += size;
  };
  return {
    put: async (principal, id, text, lifetime) => put(principal, id, text, lifetime),
    get: async (principal, id) => {
      const entry = holdings.get(principal)?.entries.get(id);
      if (entry === undefined) return undefined;
      if (entry.until > now()) return entry.text.toString();
      drop(principal, id);
      return undefined;
    },
    delete: async (principal, id) => drop(principal, id),
  };
}
