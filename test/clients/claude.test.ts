import { describe } from "vitest";
import { tryCopying } from "./copying.ts";
import { claude } from "./programs/claude.ts";
import { served } from "./rows.ts";
import { tryTroubles } from "./troubles.ts";

describe("Claude Code reads a file and writes another", () => {
  for (const way of served) tryCopying(claude, way);
});

describe("Claude Code in trouble", () => {
  tryTroubles(claude, {
    overflow: "compacts",
    cramped: {
      says: /instructions and tools of this request need/,
      requests: 7,
      outcome: "leaves out betas one by one, then stops and says so",
    },
    missing: { says: /issue with the selected model/, requests: 2, outcome: "asks once more, then stops and says so" },
  });
});
