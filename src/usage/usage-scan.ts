import { decodeUsage, mergeUsage, objectBehind, type ToldUsage } from "./told-usage.ts";

const mark = '"usage"';
/** Usage objects of one answer that are kept; of servers that count in every event, the first few and the last. */
const mostKept = 8;

/**
 * Finds what a server tells of its usage in an answer on its way, wherever the chunks are cut. Looks for one word in
 * each chunk, and parses nothing before the end. Inside of a text the word's quotes are escaped, so no model can say it.
 */
export class UsageScan {
  readonly #found: string[] = [];
  /** The end of what came, where it may be the beginning of a usage. */
  #held = "";

  /** The next chunk, each character one byte. Returns whether a usage stood in it. */
  read(chunk: string): boolean {
    let text = chunk;
    if (this.#held !== "") {
      text = this.#held + chunk;
      this.#held = "";
    }
    let found = false;
    for (let at = text.indexOf(mark); at !== -1; at = text.indexOf(mark, at + mark.length)) {
      const object = objectBehind(text, at + mark.length);
      if (object === undefined) {
        this.#held = text.slice(at);
        return found;
      }
      if (object === "") continue;
      this.#keep(object);
      found = true;
    }
    // Nearly every chunk ends with an event.
    if (text.charCodeAt(text.length - 1) !== 0x0a) this.#held = text.slice(1 - mark.length);
    return found;
  }

  /** What was told, all together; undefined: nothing. */
  told(): ToldUsage | undefined {
    return this.#found.map(decodeUsage).reduce(mergeUsage, undefined);
  }

  #keep(object: string): void {
    // A copy of its own: a slice would keep its whole chunk in memory.
    const copy = Buffer.from(object, "latin1").toString("latin1");
    if (this.#found.length < mostKept) this.#found.push(copy);
    else this.#found[mostKept - 1] = copy;
  }
}
