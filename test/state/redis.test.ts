import { afterAll, beforeAll, describe } from "vitest";
import { silent } from "../../src/core/log.ts";
import { openRedisState } from "../../src/state/redis/redis-state.ts";
import type { State } from "../../src/state/state.ts";
import { redisMissing, type RedisServer, startRedis } from "../support/redis.ts";
import { stateContract } from "./contract.ts";

const missing = redisMissing();
if (missing !== undefined) process.stdout.write(`the state in Redis is not tested: ${missing}\n`);

describe.skipIf(missing !== undefined)("with a real Redis", () => {
  let server: RedisServer;
  let prefixes = 0;
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server.close());

  stateContract("the state in Redis", async (options = {}) => {
    const url = `${server.url}?prefix=contract-${prefixes++}`;
    const states: State[] = [];
    const open = async (): Promise<State> => {
      const state = await openRedisState(url, { log: silent, replica: `replica-${states.length}`, ...options });
      states.push(state);
      return state;
    };
    return {
      state: await open(),
      again: open,
      async close() {
        await Promise.all(states.map((state) => state.close()));
      },
    };
  });
});
