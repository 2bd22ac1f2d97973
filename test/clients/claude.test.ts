import { describe, expect } from "vitest";
import { expectCopied, tryCopying, tryProgram } from "./copying.ts";
import { claude, configureClaude } from "./programs/claude.ts";
import { served } from "./rows.ts";
import { tryTroubles } from "./troubles.ts";
import { openWay } from "./ways.ts";

describe("Claude Code reads a file and writes another", () => {
  for (const way of served) tryCopying(claude, way);

  tryProgram("claude", "with all that it asks a server besides", async (trial) => {
    const { task } = trial;
    const part = claude.part(task);
    const target = await openWay("ollama", part, task);
    trial.after(() => target.close());
    // It leaves some of it out where there is a proxy.
    const direct = { HTTP_PROXY: "", HTTPS_PROXY: "" };
    const asking = { CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "", CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY: "1" };

    const run = await trial.run(configureClaude(task, target, { ...asking, ...direct }), target);

    expectCopied({ program: claude, task, part, target }, run);
    expect(target.answered.filter(({ status }) => status !== 200)).toEqual([]);
    const asked = target.answered.map(({ method, path }) => `${method} ${path}`);
    expect(asked).toEqual(expect.arrayContaining(["HEAD /api/hello", "GET /v1/models", "POST /v1/messages"]));
  });
});

describe("Claude Code in trouble", () => {
  tryTroubles(claude, {
    overflow: "compacts",
    // It leaves out one beta after the other.
    cramped: { says: /instructions and tools of this request need/, times: 6 },
    missing: { says: /issue with the selected model/, times: 2 },
  });
});
