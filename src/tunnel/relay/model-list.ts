import { type Call, jsonReply, type Reply } from "../../core/call.ts";
import type { JsonObject } from "../../core/json.ts";
import { modelInPath } from "../../core/model-path.ts";
import { nobody, notFound, resolve, type Roll } from "./resolution.ts";

/** `GET /v1/models`: the models of all agents that answer, each once, as the first of its agents shows it. */
export function listModels(roll: Roll): Reply {
  if (!roll.agents.some(({ open }) => open)) throw nobody();
  const cards = new Map<string, JsonObject>();
  for (const agent of roll.agents) {
    for (const card of agent.cards()) {
      const id = card.id as string;
      const known = cards.get(id);
      if (known === undefined) cards.set(id, { ...card, agents: [agent.name] });
      else (known.agents as string[]).push(agent.name);
    }
  }
  return jsonReply(200, { object: "list", data: [...cards.values()] });
}

/** `GET /v1/models/{name}`: the card of a model under any name by which calls reach it. Throws `model_not_found`. */
export function showModel(roll: Roll, call: Call): Reply {
  const name = modelInPath(call.path);
  const { model, agents } = resolve(roll, name);
  const holding = agents.flatMap((agent) => {
    const card = agent
      .cards()
      .find(({ id, provider }) => id === model || `${String(provider)}:${String(id)}` === model);
    return card === undefined ? [] : [{ agent, card }];
  });
  const [first] = holding;
  if (first === undefined) throw notFound(roll, name);
  return jsonReply(200, { ...first.card, id: name, agents: holding.map(({ agent }) => agent.name) });
}
