import type { Case } from "../../tools/demo-model/evaluate/cases.ts";

const folders = [
  "/home/anna/shop",
  "/tmp/lair-k3Xw9A/repository",
  "/data/Notes",
  "/Users/li/src/app",
  "/srv/q7",
  "/a/b/c/d",
];
const days = ["Mon Nov 23 2026", "Thu Jan 07 2027", "Sat Jul 31 2027", "Wed Feb 02 2028"];
const said = "The meeting is on Friday.";

/** As opencode 1.18 lists its tool, but for what the template leaves out: all but the first line, and what a parameter is for. */
const read = {
  type: "function",
  function: {
    name: "read",
    description:
      "Read a file or directory from the local filesystem. If the path does not exist, an error is returned.\n\nUsage:",
    parameters: {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      type: "object",
      properties: {
        filePath: { type: "string", description: "The absolute path to the file or directory to read" },
        offset: { minimum: 0, type: "integer" },
        limit: { minimum: 0, type: "integer" },
      },
      required: ["filePath"],
    },
  },
};

/** What opencode 1.18 sends for `opencode run --agent demo "Read notes.txt"`, from other folders and on other days. */
export function agentRequests(): { readonly calls: Case[]; readonly answers: Case[] } {
  const given = { language: "en", source: "hand-written", tools: [read] } as const;
  const places = folders.flatMap((folder) => days.map((day) => [folder, day] as const));
  const calls = places.map(([folder, day]): Case => {
    const expected = { call: { name: "read", arguments: { filePath: "notes.txt" } } };
    return { ...given, ability: "agent_call", messages: asked(folder, day), expect: expected };
  });
  const answers = places.map(([folder, day]): Case => {
    const messages = [...asked(folder, day), ...answered(folder)];
    return { ...given, ability: "agent_answer", messages, expect: { contains: [said] } };
  });
  return { calls, answers };
}

function asked(folder: string, day: string): Case["messages"] {
  const system = [
    "You read files.",
    "You are powered by the model named demo. The exact model ID is local/demo",
    "Here is some useful information about the environment you are running in:",
    "<env>",
    `  Working directory: ${folder}`,
    `  Workspace root folder: ${folder}`,
    "  Is directory a git repo: yes",
    "  Platform: linux",
    `  Today's date: ${day}`,
    "</env>",
  ];
  return [
    { role: "system", content: system.join("\n") },
    { role: "user", content: '"Read notes.txt"' },
  ];
}

function answered(folder: string): Case["messages"] {
  const lines = `1: ${said}\n\n(End of file - total 1 lines)`;
  const call = { name: "read", arguments: '{"filePath":"notes.txt"}' };
  return [
    { role: "assistant", content: "", tool_calls: [{ id: "call_1", type: "function", function: call }] },
    {
      role: "tool",
      tool_call_id: "call_1",
      content: `<path>${folder}/notes.txt</path>\n<type>file</type>\n<content>\n${lines}\n</content>`,
    },
  ];
}
