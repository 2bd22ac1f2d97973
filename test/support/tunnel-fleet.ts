import type { Reply } from "../../src/core/call.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { encodeBrokenStream } from "../../src/dialects/error-events.ts";
import { Fleet, type FleetSettings } from "../../src/tunnel/relay/fleet.ts";
import { ScriptedAgent, type ScriptedOptions } from "./tunnel-agent.ts";
import { type Asking, readReply, toCall } from "./tunnel-calls.ts";

/** A fleet and whatever was logged of it. */
export interface TestFleet {
  readonly fleet: Fleet;
  readonly logged: string[];
  /** A further connection of an agent, welcomed. */
  join(options?: ScriptedOptions): Promise<ScriptedAgent>;
  /** A call and what comes of it. */
  ask(asking?: Asking): Promise<Reply>;
  /** A chat with that model, whole: what is answered, or the error that is thrown. */
  chat(model: string, headers?: Record<string, string>): Promise<Answer>;
}

export interface Answer {
  readonly status: number;
  readonly json: JsonObject;
}

export function startFleet(settings: Partial<FleetSettings> = {}): TestFleet {
  const logged: string[] = [];
  const keep = (fields: object, message: string): void => void logged.push(`${message} ${JSON.stringify(fields)}`);
  const fleet = new Fleet({
    log: { debug: keep, info: keep, warn: keep, error: keep },
    version: "0.0.0-relay",
    errorEvents: encodeBrokenStream,
    ...settings,
  });
  const ask = (asking: Asking = {}): Promise<Reply> => fleet.handler(toCall(asking).call);
  return {
    fleet,
    logged,
    ask,
    async join(options = {}) {
      const agent = new ScriptedAgent(options);
      fleet.admit(agent.arrival);
      await agent.hears("welcome");
      return agent;
    },
    async chat(model, headers = {}) {
      const reply = await ask({ json: { model, messages: [] }, headers });
      return { status: reply.status, json: JSON.parse((await readReply(reply)).text) as JsonObject };
    },
  };
}

/** Answers every call with the agent's name and the model that it was asked for, as a runtime does. */
export function answering(name: string): NonNullable<ScriptedOptions["onCall"]> {
  return (call) => {
    void call.body.then((body) => {
      const model = body.length === 0 ? null : ((JSON.parse(body.toString()) as JsonObject).model ?? null);
      const json = JSON.stringify({ id: "1", by: name, asked: model, model });
      call.stream.respond({ ":status": "200", "content-type": "application/json" }, false);
      call.stream.write(json);
      call.stream.end();
    });
  };
}

/** Answers every call as a runtime that lacks its model. */
export function unknowing(): NonNullable<ScriptedOptions["onCall"]> {
  return (call) => {
    const json = JSON.stringify({
      error: { message: "no such model here", type: "x", param: null, code: "model_not_found" },
    });
    call.stream.respond({ ":status": "404", "content-type": "application/json" }, false);
    call.stream.write(json);
    call.stream.end();
  };
}
