import type { Tool } from "../../src/core/chat.ts";
import type { Family } from "../../src/engines/parsers/family.ts";
import type { OutputParser, ParsedEvent } from "../../src/engines/parsers/parser.ts";

/** What a parser's events come to. */
export interface Read {
  text: string;
  reasoning: string;
  calls: { name: string; arguments: string }[];
}

/** Puts events together. */
export function collect(events: readonly ParsedEvent[]): Read {
  const read: Read = { text: "", reasoning: "", calls: [] };
  for (const event of events) {
    if (event.type !== "tool-call") read[event.type] += event.text;
    else if (event.id !== undefined) read.calls[event.index] = { name: event.name ?? "", arguments: event.arguments };
    else (read.calls[event.index] as Read["calls"][number]).arguments += event.arguments;
  }
  return read;
}

/** Feeds an output in pieces. */
export function readPieces(parser: OutputParser, pieces: Iterable<string>): Read {
  const events: ParsedEvent[] = [];
  for (const piece of pieces) events.push(...parser.push(piece));
  return collect([...events, ...parser.end()]);
}

/** A parser of a family with ids that count. */
export function openParser(family: Family, tools: readonly Tool[], opened = false): OutputParser {
  let next = 0;
  return family.createParser({ tools, newId: () => `call_${++next}`, opened });
}
