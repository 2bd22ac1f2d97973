import { describe } from "vitest";
import { tryCopying } from "./copying.ts";
import { codex } from "./programs/codex.ts";
import { served } from "./rows.ts";
import { tryTroubles } from "./troubles.ts";

describe("Codex reads a file and writes another", () => {
  for (const way of served) tryCopying(codex, way);
});

describe("Codex in trouble", () => {
  tryTroubles(codex, {
    overflow: { says: /ran out of room/, requests: 2, outcome: "stops and says so" },
    cramped: { says: /ran out of room/, requests: 1, outcome: "stops and says so" },
    missing: { says: /openrouter:nothing/, requests: 6, outcome: "asks 5 times more, then stops and says so" },
  });
});
