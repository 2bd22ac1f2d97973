import { describe } from "vitest";
import { tryCopying } from "./copying.ts";
import { claude } from "./programs/claude.ts";
import { served } from "./rows.ts";

describe("Claude Code reads a file and writes another", () => {
  for (const way of served) tryCopying(claude, way);
});
