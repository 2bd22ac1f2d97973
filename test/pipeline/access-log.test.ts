import { expect, test } from "vitest";
import { agentQuestion } from "../../src/core/agent-state.ts";
import { Call } from "../../src/core/call.ts";
import { Departure } from "../../src/core/departure.ts";
import type { Log } from "../../src/core/log.ts";
import { accessLog } from "../../src/pipeline/access-log.ts";

interface Exchange {
  readonly id?: string;
  readonly method?: string;
  readonly path?: string;
  readonly status?: number;
  readonly problem?: string;
}

/** The level on which an exchange is told. */
function levelOf({ id = "r-1", method = "GET", path = "/v1/models", status = 200, problem }: Exchange): string {
  const levels: string[] = [];
  const at = (level: string) => () => void levels.push(level);
  const log: Log = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  accessLog(log)(new Call({ id, method, path, signal: new Departure() }), {
    status,
    end: problem === undefined ? "complete" : "failed",
    ...(problem === undefined ? {} : { problem }),
    firstByte: 1,
    duration: 1,
    bytes: 1,
  });
  return levels.join();
}

test("what people ask has a line, and what broke a warning", () => {
  expect(levelOf({})).toBe("info");
  expect(levelOf({ method: "POST", path: "/v1/chat/completions" })).toBe("info");
  expect(levelOf({ method: "POST", path: "/v1/chat/completions", problem: "lost" })).toBe("warn");
});

test("supervisors and agents that ask every few seconds do not fill the log, unless something is wrong", () => {
  expect(levelOf({ path: "/health" })).toBe("debug");
  expect(levelOf({ path: "/ready" })).toBe("debug");
  expect(levelOf({ id: agentQuestion })).toBe("debug");
  expect(levelOf({ path: "/ready", status: 503 })).toBe("info");
  expect(levelOf({ id: agentQuestion, status: 401 })).toBe("info");
  expect(levelOf({ id: agentQuestion, method: "POST", path: "/v1/chat/completions" })).toBe("info");
});
