import { createInterface } from "node:readline/promises";
import { nearNames } from "../../core/near-names.ts";
import { plainText, type Terminal } from "../command.ts";
import { modelWays } from "../demo-text.ts";
import { type Client, ClientError } from "./client.ts";
import type { OfferedModel } from "./offered-models.ts";

/** A model that was chosen, and how that came about where its user did not name it. */
export interface Choice {
  readonly model: OfferedModel;
  readonly note?: string;
}

/** Models in a list to choose from. */
const mostShown = 9;

/**
 * The model that is named; else the one picked from a short list, where a person can be asked; else the best one, with a
 * word about it. Throws `ClientError` when the name is nobody's, or no model will do.
 */
export async function chooseModel(
  wanted: string | undefined,
  models: readonly OfferedModel[],
  client: Client,
  terminal: Terminal,
): Promise<Choice> {
  if (models.length === 0)
    throw new ClientError("the server has no model to chat with; lair pull hf:user/repo fetches one");
  if (wanted !== undefined) return { model: findModel(wanted, models) };
  const fitting = rank(models).filter(({ tools, context }) => tools && context >= client.context.least);
  const [best, ...others] = fitting;
  if (best === undefined) throw new ClientError(noneText(models, client));
  if (others.length === 0) return { model: best, note: `${best.id} is the model here that fits ${client.title}` };
  if (terminal.interactive && terminal.input.isTTY) return { model: await askModel(fitting, terminal) };
  return { model: best, note: `takes ${best.id}, of ${fitting.length} that fit; --model names another` };
}

/** Loaded ones first, for they answer at once; the built-in demo last. */
export function rank(models: readonly OfferedModel[]): OfferedModel[] {
  const weight = ({ loaded, demo }: OfferedModel): number => (demo ? 2 : loaded ? 0 : 1);
  return models.toSorted((a, b) => weight(a) - weight(b));
}

/** The model of that name: by its id, or what comes after the provider's name; case does not count. Throws `ClientError`. */
export function findModel(wanted: string, models: readonly OfferedModel[]): OfferedModel {
  const name = wanted.toLowerCase();
  const found =
    models.find(({ id }) => id === wanted) ??
    models.find(({ id }) => id.toLowerCase() === name || id.toLowerCase().endsWith(`:${name}`));
  if (found !== undefined) return found;
  const ids = models.map(({ id }) => id);
  const near = nearNames(wanted, ids);
  const listed = ids.slice(0, mostShown).join(", ") + (ids.length > mostShown ? ", …" : "");
  const suggested = near.startsWith("did") ? `; ${near}` : ".";
  throw new ClientError(`the server has no model ${JSON.stringify(wanted)}${suggested} It has ${listed}`);
}

function noneText(models: readonly OfferedModel[], client: Client): string {
  const { title, context } = client;
  const [only, ...others] = models;
  if (only?.demo === true && others.length === 0) return demoRefusal(only, client);
  const rows = models.slice(0, mostShown).map(describe);
  return [
    `none of the models fits ${title}, which needs tool calls and a context of ${formatTokens(context.least)}:`,
    ...rows.map((row) => `  ${row}`),
    "The embedded engine gives more context by: lair serve --ctx 32768",
  ].join("\n");
}

/** Why the demo model is nothing for an agent, whatever the settings, and what is. */
export function demoRefusal({ id, context }: OfferedModel, { title, context: needs }: Client): string {
  return [
    `${id} is the tiny demo model that comes with lair: its context is ${formatTokens(context)}, and ${title} needs ${formatTokens(needs.least)} for its own instructions and a first answer. It was not made for programming either. Give the server a real model and try again:`,
    ...modelWays({}).map((way) => `  ${way}`),
  ].join("\n");
}

async function askModel(models: readonly OfferedModel[], terminal: Terminal): Promise<OfferedModel> {
  const shown = models.slice(0, mostShown);
  for (const [at, model] of shown.entries()) terminal.print(`  ${at + 1}  ${plainText(describe(model))}`);
  if (models.length > shown.length) terminal.print(`     … and ${models.length - shown.length} more, by --model`);
  const lines = createInterface({ input: terminal.input, output: terminal.output });
  const left = new Promise<never>((_, reject) =>
    lines.once("close", () => reject(new ClientError("no model was chosen; --model names one"))),
  );
  try {
    for (;;) {
      const answer = (await Promise.race([lines.question("Which model? [1] "), left])).trim();
      const picked = shown[(answer === "" ? 1 : Number(answer)) - 1] ?? models.find(({ id }) => id === answer);
      if (picked !== undefined) return picked;
      terminal.print(`  a number from 1 to ${shown.length}, please`);
    }
  } finally {
    // Closing is leaving only while a question is open.
    left.catch(() => undefined);
    lines.close();
  }
}

/** e.g. `qwen3:8b  32,768 tokens, tools, loaded`. */
function describe({ id, context, assumed, tools, vision, reasoning, loaded }: OfferedModel): string {
  const words = Object.entries({ tools, vision, reasoning, loaded }).flatMap(([word, is]) => (is ? [word] : []));
  return `${id}  ${[assumed ? "context unknown" : formatTokens(context), ...words].join(", ")}`;
}

/** e.g. `32,768 tokens`. */
export function formatTokens(count: number): string {
  return `${count.toLocaleString("en-US")} tokens`;
}
