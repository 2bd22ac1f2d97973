import { expect } from "vitest";
import { isObject, type JsonObject } from "../../src/core/json.ts";
import { type Answer, ask, type Exchange, open, openUnanswered } from "./tunnel-caller.ts";
import { asCaller } from "./tunnel-chain.ts";

/** Calls under way: streams that have begun, and calls whose answer has not. */
export interface Load {
  readonly streams: readonly Exchange[];
  readonly waiting: readonly Promise<Answer | Error>[];
  leave(): void;
}

const ask50 = { model: "demo", messages: [], stream: true };

/** Puts streams without an end and unanswered calls on a relay; every stream has brought something when it resolves. */
export async function putLoad(url: string, streams = 50, waiting = 10, model = "demo"): Promise<Load> {
  const where = `${url}/v1/chat/completions`;
  const body: JsonObject = { ...ask50, model };
  const begun = await Promise.all(
    Array.from({ length: streams }, async () => {
      const exchange = await open(where, { body, headers: asCaller });
      await exchange.until(/word1 /);
      return exchange;
    }),
  );
  const held = Array.from({ length: waiting }, () =>
    openUnanswered(where, { body: { ...body, stream: false }, headers: asCaller }),
  );
  return {
    streams: begun,
    waiting: held.map(({ over }) => over),
    leave() {
      for (const { leave } of [...begun, ...held]) leave();
    },
  };
}

/** The error that the stream's last event tells of; "cut within an event" where none could follow. */
function lastError(text: string): unknown {
  if (!text.endsWith("\n\n")) return "cut within an event";
  const last = text.split("\n\n").at(-2) ?? "";
  const json = last.startsWith("data: {") ? (JSON.parse(last.slice(6)) as JsonObject) : {};
  return isObject(json.error) ? json.error.code : undefined;
}

/** Every stream was cut, after an event that tells of the error; every waiting call has an error that says when to come back. */
export async function expectFailures({ streams, waiting }: Load, code: string): Promise<void> {
  const cut = await Promise.all(streams.map(({ answer }) => answer));
  expect(cut.filter(({ clean }) => clean).length, "streams with a clean end").toBe(0);
  const told = cut.map(({ text }) => lastError(text)).filter((error) => error !== "cut within an event");
  expect(told).toEqual(told.map(() => code));
  expect(told.length, "streams that could be told why they end").toBeGreaterThan(cut.length / 2);
  const answers = await Promise.all(waiting);
  const said = answers.map((answer) => (answer instanceof Error ? answer.message : outcome(answer)));
  expect(said).toEqual(said.map(() => expect.stringMatching(/^502 agent_lost retry-after: \d+$/)));
}

function outcome({ status, text, headers }: Answer): string {
  const { error } = JSON.parse(text) as { error: { code: string } };
  return `${status} ${error.code} retry-after: ${String(headers["retry-after"])}`;
}

/** A short stream that is answered to its end. */
export async function expectAnswer(url: string, model = "demo"): Promise<void> {
  const body = { ...ask50, model, max_tokens: 3 };
  const answer = await ask(`${url}/v1/chat/completions`, { body, headers: asCaller });
  expect([answer.status, answer.clean, answer.text]).toEqual([200, true, expect.stringMatching(/\[DONE\]\n\n$/)]);
}

/** Short streams one after the other on several lines, until told to stop; says what was not a complete answer. */
export function keepAsking(url: string, lines = 8): { stop(): Promise<{ answered: number; failed: string[] }> } {
  let asking = true;
  let answered = 0;
  const failed: string[] = [];
  const body = { ...ask50, max_tokens: 2 };
  const line = async (): Promise<void> => {
    while (asking) {
      const answer = await ask(`${url}/v1/chat/completions`, { body, headers: asCaller }).catch(
        (error: Error) => error,
      );
      if (!(answer instanceof Error) && answer.status === 200 && answer.clean && answer.text.includes("[DONE]"))
        answered++;
      else
        failed.push(
          answer instanceof Error ? answer.message : `${answer.status} ${answer.clean} ${answer.text.slice(-200)}`,
        );
    }
  };
  const all = Promise.all(Array.from({ length: lines }, line));
  return {
    async stop() {
      asking = false;
      await all;
      return { answered, failed };
    },
  };
}
