/** A noncharacter of Unicode, which no text means: it stands inside every control token's name that is no control token. */
const divider = "\ufdd0";

interface Node {
  readonly next: Map<string, Node>;
  ends: boolean;
}

/**
 * The control tokens of a vocabulary as texts, such as `<|im_start|>`. Where a user (or a file that an agent reads) writes
 * one, it must stay text: `divide` breaks it in two, and the pieces of the prompt are tokenised one by one.
 */
export class ControlTexts {
  readonly #root: Node = { next: new Map(), ends: false };
  /** Finds where one may begin; null when there are none. */
  readonly #first: RegExp | null;

  constructor(texts: readonly string[]) {
    // One character cannot be divided.
    const divisible = texts.filter((text) => characterLength(text, 0) < text.length);
    for (const text of divisible) this.#add(text);
    const codes = [...this.#root.next.keys()].map((first) => `\\u${first.charCodeAt(0).toString(16).padStart(4, "0")}`);
    this.#first = codes.length === 0 ? null : new RegExp(`[${codes.join("")}]`, "g");
  }

  /** The text with a divider behind the first character of every control token's name. */
  divide(text: string): string {
    const clean = text.includes(divider) ? text.replaceAll(divider, "") : text;
    const first = this.#first;
    if (first === null) return clean;
    let divided = "";
    let copied = 0;
    first.lastIndex = 0;
    for (let found = first.exec(clean); found !== null; found = first.exec(clean)) {
      if (!this.#isAt(clean, found.index)) continue;
      const cut = found.index + characterLength(clean, found.index);
      divided += clean.slice(copied, cut) + divider;
      copied = cut;
    }
    return copied === 0 ? clean : divided + clean.slice(copied);
  }

  /** Texts that stand one behind the other, so that none begins where another ends. */
  divideParts(texts: readonly string[]): string[] {
    const [only] = texts;
    if (texts.length < 2) return only === undefined ? [] : [this.divide(only)];
    const clean = texts.map((text) => text.replaceAll(divider, ""));
    const divided = this.divide(clean.join(""));
    let at = 0;
    return clean.map((text, index) => {
      const start = at;
      for (let left = text.length; left > 0; at += 1) if (divided[at] !== divider) left -= 1;
      // A divider between two parts stays with the first.
      if (divided[at] === divider) at += 1;
      return divided.slice(start, index === clean.length - 1 ? undefined : at);
    });
  }

  #add(text: string): void {
    let node = this.#root;
    for (let at = 0; at < text.length; at += 1) {
      const character = text.charAt(at);
      let next = node.next.get(character);
      if (next === undefined) node.next.set(character, (next = { next: new Map(), ends: false }));
      node = next;
    }
    node.ends = true;
  }

  #isAt(text: string, start: number): boolean {
    let node = this.#root;
    for (let at = start; at < text.length; at += 1) {
      const next = node.next.get(text.charAt(at));
      if (next === undefined) return false;
      if (next.ends) return true;
      node = next;
    }
    return false;
  }
}

/** A rendered prompt in pieces between which no control token may arise. */
export function toPieces(prompt: string): string[] {
  return prompt.split(divider);
}

/** A rendered prompt as the plain text that it says. */
export function withoutDividers(prompt: string): string {
  return prompt.replaceAll(divider, "");
}

function characterLength(text: string, at: number): number {
  return (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
}
