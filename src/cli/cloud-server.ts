#!/usr/bin/env node
// The original runtime's name for `lair cloud`.
process.argv.splice(2, 0, "cloud");
await import("./main.ts");
