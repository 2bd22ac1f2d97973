import { isObject } from "../../core/json.ts";

/**
 * Reads the text out of the arguments of a custom tool's function, `{"input": "…"}`, while they come. Arguments of
 * another form, which weak models write, are kept back until the end.
 */
export class CustomInput {
  #state: "before" | "inside" | "after" | "other" = "before";
  /** JSON text that was not understood yet; all of it in the state `other`. */
  #pending = "";
  #text = "";

  /** The whole text so far. */
  get text(): string {
    return this.#text;
  }

  /** The text that a fragment of the arguments adds. */
  add(fragment: string): string {
    if (this.#state === "after") return "";
    this.#pending += fragment;
    if (this.#state === "before") this.#begin();
    return this.#state === "inside" ? this.#take() : "";
  }

  /** The text that comes to light only at the end. */
  end(): string {
    if (this.#state === "inside" || this.#state === "after") return "";
    const text = unwrap(this.#pending);
    this.#text += text;
    return text;
  }

  #begin(): void {
    const opening = /^\s*\{\s*"input"\s*:\s*"/.exec(this.#pending)?.[0];
    if (opening !== undefined) {
      this.#state = "inside";
      this.#pending = this.#pending.slice(opening.length);
    } else if (this.#pending.length > 64) this.#state = "other";
  }

  #take(): string {
    const { length, closed } = measure(this.#pending);
    const text = unescape(this.#pending.slice(0, length));
    this.#pending = closed ? "" : this.#pending.slice(length);
    if (closed) this.#state = "after";
    this.#text += text;
    return text;
  }
}

const quote = 0x22;
const backslash = 0x5c;

/** How far a JSON string's content can be read: to its end (`closed`), or to an escape that is not all there yet. */
function measure(json: string): { length: number; closed: boolean } {
  let at = 0;
  while (at < json.length) {
    const code = json.charCodeAt(at);
    if (code === quote) return { length: at, closed: true };
    const next = at + (code === backslash ? escapeLength(json, at) : 1);
    if (next > json.length) break;
    at = next;
  }
  return { length: at, closed: false };
}

/** The units of the escape that starts here; the two halves of a surrogate pair count as one. */
function escapeLength(json: string, at: number): number {
  if (json[at + 1] !== "u") return 2;
  const isHalf = /^[dD][89abAB]/.test(json.slice(at + 2, at + 4));
  return isHalf && "\\u".startsWith(json.slice(at + 6, at + 8)) ? 12 : 6;
}

function unescape(json: string): string {
  if (!json.includes("\\")) return json;
  try {
    // Models write line breaks as they are, which JSON forbids.
    return JSON.parse(`"${json.replace(/\p{Cc}/gu, escapeControl)}"`) as string;
  } catch {
    return json;
  }
}

function escapeControl(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** An object's only text, or a text; what is neither was meant as the input itself. */
function unwrap(written: string): string {
  try {
    const json: unknown = JSON.parse(written);
    if (typeof json === "string") return json;
    const values = isObject(json) ? Object.values(json) : [];
    return values.length === 1 && typeof values[0] === "string" ? values[0] : written;
  } catch {
    return written;
  }
}
