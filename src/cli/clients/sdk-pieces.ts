import { type Aim, keyVariable, openaiUrl } from "./client.ts";
import { noKey, type Piece } from "./piece.ts";

/** What a program of one's own says to reach the server, for each library by the name of `lair connect`. */
export const sdkPieces = {
  "openai-python": openaiPythonPieces,
  "openai-js": openaiPieces,
  "anthropic-python": anthropicPythonPieces,
  "anthropic-js": anthropicPieces,
  "ai-sdk": aiSdkPieces,
  "langchain-python": langchainPythonPieces,
  "langchain-js": langchainPieces,
  "ollama-js": ollamaPieces,
} satisfies Record<string, (aim: Aim) => Piece[]>;

function openaiPieces(aim: Aim): Piece[] {
  const text = [
    'import OpenAI from "openai";',
    "",
    `const client = new OpenAI({ baseURL: ${quote(openaiUrl(aim))}, apiKey: ${keyInJs(aim)} });`,
    "const answer = await client.chat.completions.create({",
    `  model: ${quote(aim.model.id)},`,
    '  messages: [{ role: "user", content: "Say hello." }],',
    "});",
    "console.log(answer.choices[0].message.content);",
  ].join("\n");
  return [{ where: "npm install openai", text }];
}

function openaiPythonPieces(aim: Aim): Piece[] {
  const text = [
    ...importKey(aim),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${quote(openaiUrl(aim))}, api_key=${keyInPython(aim)})`,
    "answer = client.chat.completions.create(",
    `    model=${quote(aim.model.id)},`,
    '    messages=[{"role": "user", "content": "Say hello."}],',
    ")",
    "print(answer.choices[0].message.content)",
  ].join("\n");
  return [{ where: "pip install openai", text }];
}

function anthropicPieces(aim: Aim): Piece[] {
  const text = [
    'import Anthropic from "@anthropic-ai/sdk";',
    "",
    `const client = new Anthropic({ baseURL: ${quote(aim.url)}, apiKey: ${keyInJs(aim)} });`,
    "const answer = await client.messages.create({",
    `  model: ${quote(aim.model.id)},`,
    "  max_tokens: 1024,",
    '  messages: [{ role: "user", content: "Say hello." }],',
    "});",
    "console.log(answer.content);",
  ].join("\n");
  return [{ where: "npm install @anthropic-ai/sdk", text }];
}

function anthropicPythonPieces(aim: Aim): Piece[] {
  const text = [
    ...importKey(aim),
    "from anthropic import Anthropic",
    "",
    `client = Anthropic(base_url=${quote(aim.url)}, api_key=${keyInPython(aim)})`,
    "answer = client.messages.create(",
    `    model=${quote(aim.model.id)},`,
    "    max_tokens=1024,",
    '    messages=[{"role": "user", "content": "Say hello."}],',
    ")",
    "print(answer.content)",
  ].join("\n");
  return [{ where: "pip install anthropic", text }];
}

function aiSdkPieces(aim: Aim): Piece[] {
  const text = [
    'import { createOpenAICompatible } from "@ai-sdk/openai-compatible";',
    'import { generateText } from "ai";',
    "",
    "const lair = createOpenAICompatible({",
    '  name: "lair",',
    `  baseURL: ${quote(openaiUrl(aim))},`,
    `  apiKey: ${keyInJs(aim)},`,
    "  includeUsage: true,",
    "});",
    `const { text } = await generateText({ model: lair.chatModel(${quote(aim.model.id)}), prompt: "Say hello." });`,
    "console.log(text);",
  ].join("\n");
  return [{ where: "npm install ai @ai-sdk/openai-compatible", text }];
}

function langchainPieces(aim: Aim): Piece[] {
  const text = [
    'import { ChatOpenAI } from "@langchain/openai";',
    "",
    "const model = new ChatOpenAI({",
    `  model: ${quote(aim.model.id)},`,
    `  apiKey: ${keyInJs(aim)},`,
    `  configuration: { baseURL: ${quote(openaiUrl(aim))} },`,
    "});",
    'const answer = await model.invoke("Say hello.");',
    "console.log(answer.content);",
  ].join("\n");
  return [{ where: "npm install @langchain/openai", text }];
}

function langchainPythonPieces(aim: Aim): Piece[] {
  const text = [
    ...importKey(aim),
    "from langchain_openai import ChatOpenAI",
    "",
    `model = ChatOpenAI(model=${quote(aim.model.id)}, base_url=${quote(openaiUrl(aim))}, api_key=${keyInPython(aim)})`,
    'print(model.invoke("Say hello.").content)',
  ].join("\n");
  return [{ where: "pip install langchain-openai", text }];
}

function ollamaPieces(aim: Aim): Piece[] {
  const headers = aim.keyed ? `, headers: { authorization: \`Bearer \${${keyInJs(aim)}}\` }` : "";
  const text = [
    'import { Ollama } from "ollama";',
    "",
    `const ollama = new Ollama({ host: ${quote(aim.url)}${headers} });`,
    "const answer = await ollama.chat({",
    `  model: ${quote(aim.model.id)},`,
    '  messages: [{ role: "user", content: "Say hello." }],',
    "});",
    "console.log(answer.message.content);",
  ].join("\n");
  return [
    { where: "npm install ollama", text },
    { where: "programs that take the address from a variable", text: `OLLAMA_HOST=${aim.url}` },
  ];
}

/** A text in JavaScript and Python, which take what JSON writes. */
function quote(text: string): string {
  return JSON.stringify(text);
}

function keyInJs({ keyed }: Aim): string {
  // Written for the program that is printed; this one reads its environment in one place only.
  return keyed ? ["process", "env", keyVariable].join(".") : quote(noKey);
}

function keyInPython({ keyed }: Aim): string {
  return keyed ? `os.environ["${keyVariable}"]` : quote(noKey);
}

function importKey({ keyed }: Aim): string[] {
  return keyed ? ["import os"] : [];
}
