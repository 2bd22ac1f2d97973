import type { Environment } from "../../config/environment.ts";
import { type Client, ClientError } from "./client.ts";
import type { Program } from "./find-program.ts";
import { demoRefusal, formatTokens } from "./model-choice.ts";
import type { OfferedModel } from "./offered-models.ts";
import { readVersion } from "./start-program.ts";

/** What will not go well with a model, a sentence each. Throws `ClientError` where it cannot go at all. */
export function checkModel(model: OfferedModel, client: Client): string[] {
  const { id, context, assumed, tools } = model;
  const { title, context: needs } = client;
  if (context < needs.least && model.demo) throw new ClientError(demoRefusal(model, client));
  if (context < needs.least)
    throw new ClientError(
      `${id} has a context of ${formatTokens(context)}, and ${title} needs ${formatTokens(needs.least)} for its own instructions and a first answer. ${moreText}`,
    );
  return [
    ...(assumed ? [`the server does not say how much context ${id} has; ${formatTokens(context)} are assumed`] : []),
    ...(!assumed && context < needs.sensible
      ? [
          `${id} has a context of ${formatTokens(context)}: enough to begin with; ${title} works well from ${formatTokens(needs.sensible)}. ${moreText}`,
        ]
      : []),
    ...(tools
      ? []
      : [`${id} is not known to call tools, by which ${title} does everything; another model will do better`]),
  ];
}

const moreText = "The embedded engine gives more by: lair serve --ctx 32768";

/** A word about a program that is older than the one that is known to work. */
export async function checkVersion(program: Program, client: Client, env: Environment): Promise<string | undefined> {
  const version = await readVersion(program, env);
  if (version === undefined || !isOlder(version, client.tested)) return undefined;
  return `${client.title} ${version} is older than ${client.tested}, which is known to work; npm install -g ${client.package} brings a newer one`;
}

function isOlder(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split(".").map(Number));
  const at = (a ?? []).findIndex((part, index) => part !== b?.[index]);
  return at !== -1 && (a?.[at] ?? 0) < (b?.[at] ?? 0);
}
