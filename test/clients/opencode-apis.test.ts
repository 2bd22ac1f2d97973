import { describe } from "vitest";
import { tryCopying } from "./copying.ts";
import { opencodes } from "./programs/opencode.ts";
import { served } from "./rows.ts";

describe("opencode reads a file and writes another over other APIs", () => {
  for (const program of opencodes) for (const way of served) if (program.dialect !== "chat") tryCopying(program, way);
});
