import type { Headers } from "../core/call.ts";

/** Shorter texts are words such as `none` and `EMPTY`, which stand in errors for other reasons. */
const shortest = 8;

/**
 * What we show a server so that it lets us in. Some repeat what they were sent when they refuse it, and what they say
 * goes on to our callers: there it must not stand.
 */
export class OwnSecrets {
  readonly #spellings: readonly string[];
  readonly #shortest: number;

  /** `headers`: as they are sent, e.g. `{ authorization: "Bearer …" }`; a scheme before a secret is none of it. */
  constructor(headers: Headers) {
    const secrets = Object.values(headers)
      .map((value) => value.replace(/^[A-Za-z]+ +/, ""))
      .filter((secret) => secret.length >= shortest);
    this.#spellings = [...new Set(secrets.flatMap(spellings))].sort((a, b) => b.length - a.length);
    this.#shortest = Math.min(...this.#spellings.map(({ length }) => length));
  }

  /** Whether there are any. */
  get known(): boolean {
    return this.#spellings.length > 0;
  }

  /** The text of a reply with stars in place of each. */
  hide(said: Buffer): Buffer {
    if (!this.#spellings.some((secret) => said.includes(secret))) return said;
    let text = said.toString("latin1");
    for (const secret of this.#spellings) text = text.replaceAll(Buffer.from(secret).toString("latin1"), "***");
    return Buffer.from(text, "latin1");
  }

  /** The head of a reply without those of its headers that hold one. */
  without(headers: Headers): Headers {
    const told = Object.entries(headers).filter(([, value]) => this.#isIn(value));
    if (told.length === 0) return headers;
    const rest = { ...headers };
    for (const [name] of told) delete rest[name];
    return rest;
  }

  #isIn(value: string): boolean {
    return value.length >= this.#shortest && this.#spellings.some((secret) => value.includes(secret));
  }
}

/** As it is, and as JSON, PHP's JSON, a URL and Basic authentication write it. */
function spellings(secret: string): string[] {
  const json = JSON.stringify(secret).slice(1, -1);
  const base64 = Buffer.from(secret).toString("base64");
  return [secret, json, json.replaceAll("/", "\\/"), encodeURIComponent(secret), base64, base64.replace(/=+$/, "")];
}
