import { claude } from "./claude.ts";
import type { Client } from "./client.ts";
import { codex } from "./codex.ts";
import { opencode } from "./opencode.ts";

/** The programs that `lair launch` starts. */
export const clients: readonly Client[] = [opencode, codex, claude];
