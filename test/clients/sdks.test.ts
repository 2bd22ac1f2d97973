import { randomUUID } from "node:crypto";
import { afterAll, describe, expect, inject, it } from "vitest";
import { noteRow, served, type Way } from "./rows.ts";
import { aiSdks } from "./sdks/ai.ts";
import { anthropic } from "./sdks/anthropic.ts";
import { langchains } from "./sdks/langchain.ts";
import { ollama } from "./sdks/ollama.ts";
import { openaiChat, openaiResponses } from "./sdks/openai.ts";
import { makeToolbox } from "./sdks/sdk.ts";
import { openWay, type Target } from "./ways.ts";
import { makeTask, type Task } from "./workplace.ts";

const sdks = [openaiChat, openaiResponses, anthropic, ...aiSdks, ...langchains, ollama];
const found = inject("clients").libraries;
const libraries = "path" in found ? found.path : "";
const token = `TOKEN-${randomUUID()}`;
/** One server for all libraries: the model plays the same part for each of them. */
const targets = new Map<Way, Promise<Target>>();
const tasks: Task[] = [];

afterAll(async () => {
  for (const target of targets.values()) await (await target).close();
  for (const task of tasks) task.remove();
});

function target(way: Way): Promise<Target> {
  let opened = targets.get(way);
  if (opened === undefined) {
    const task = makeTask();
    tasks.push(task);
    opened = openWay(way, makeToolbox(token).part, task);
    targets.set(way, opened);
  }
  return opened;
}

describe("a program with this library lets the model use two tools", () => {
  for (const sdk of sdks)
    for (const way of served)
      for (const stream of [true, false])
        it(`${sdk.client} over ${sdk.dialect} with ${way}, ${stream ? "streamed" : "whole"}`, async ({
          task,
          skip,
        }) => {
          if ("missing" in found && aiSdks.concat(langchains).includes(sdk)) return skip(found.missing);
          noteRow(task, { client: sdk.client, dialect: sdk.dialect, way });
          const { toolbox, part } = makeToolbox(token);
          const server = await target(way);

          const said = await sdk.ask(server, toolbox, { stream, libraries });

          expect(toolbox.used).toEqual([part.first, part.second]);
          expect(said).toBe(part.last);
        });
});
