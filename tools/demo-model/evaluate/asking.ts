import type { Case } from "./cases.ts";
import { type Answer, isRight } from "./verdict.ts";

/** Where the model is asked. */
export interface Address {
  /** With `/v1`, e.g. `http://127.0.0.1:18080/v1`. */
  readonly url: string;
  readonly model: string;
}

/** A case, what the model said, and whether that is right. */
export interface Outcome {
  readonly asked: Case;
  readonly answer: Answer;
  readonly right: boolean;
}

interface Message {
  readonly content?: string | null;
  readonly tool_calls?: readonly { readonly function: { readonly name: string; readonly arguments: string } }[];
}

const longest = 400;

/** Asks all cases, `width` at a time, each at temperature 0. Throws when the server answers with an error. */
export async function askAll(cases: readonly Case[], address: Address, width: number): Promise<Outcome[]> {
  const outcomes = Array.from<Outcome>({ length: cases.length });
  let next = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < cases.length; index = next++) {
      const asked = cases[index]!;
      const answer = await ask(asked, address);
      outcomes[index] = { asked, answer, right: isRight(answer, asked.expect) };
    }
  };
  await Promise.all(Array.from({ length: width }, work));
  return outcomes;
}

/** Asks one case. Throws when the server answers with an error. */
export async function ask({ messages, tools }: Pick<Case, "messages" | "tools">, address: Address): Promise<Answer> {
  const body = { messages, temperature: 0, max_tokens: longest, ...(tools === undefined ? {} : { tools }) };
  const response = await post("/chat/completions", body, address);
  const { choices } = (await response.json()) as { choices: readonly { readonly message: Message }[] };
  const message = choices[0]!.message;
  return { text: message.content ?? "", calls: (message.tool_calls ?? []).map((call) => call.function) };
}

/** The response to a POST. Throws with the body of one that is no success. */
export async function post(path: string, body: object, { url, model }: Address): Promise<Response> {
  const response = await fetch(`${url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, ...body }),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${(await response.text()).slice(0, 500)}`);
  return response;
}
