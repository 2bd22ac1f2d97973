#!/usr/bin/env node
// `npm start`: installs and builds what is missing, then becomes the program, in this same process.
import { pathToFileURL } from "node:url";
import { ensureBuilt, ensureInstalled, program, requireNode } from "./bootstrap.mjs";

requireNode();
await ensureInstalled();
await ensureBuilt();

process.argv = [process.argv[0], program, ...process.argv.slice(2)];
await import(pathToFileURL(program).href);
