#!/usr/bin/env node
// The original runtime's name for `lair agent`.
process.argv.splice(2, 0, "agent");
await import("./main.ts");
