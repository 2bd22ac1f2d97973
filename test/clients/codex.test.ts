import { describe } from "vitest";
import { tryCopying } from "./copying.ts";
import { codex } from "./programs/codex.ts";
import { served } from "./rows.ts";

describe("Codex reads a file and writes another", () => {
  for (const way of served) tryCopying(codex, way);
});
