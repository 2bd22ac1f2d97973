import { createHash } from "node:crypto";
import { Template } from "@huggingface/jinja";
import type { Message, Part, Tool } from "../../core/chat.ts";
import { ApiError } from "../../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";

/** What a prompt is rendered from. */
export interface PromptInput {
  readonly messages: readonly Message[];
  readonly tools: readonly Tool[];
  readonly reasoningEffort?: string;
  readonly variables?: JsonObject;
  readonly bosText: string;
  readonly eosText: string;
}

/** What a template demands of messages. */
interface Spelling {
  /** It knows the role `developer`. */
  readonly developer: boolean;
  readonly shortIds: boolean;
}

/** A model's own Jinja chat template, compiled once. */
export class ChatTemplate {
  readonly source: string;
  readonly #template: Template;

  /** Throws when the source is no Jinja that the renderer reads. */
  constructor(source: string) {
    this.source = source;
    this.#template = new Template(source);
  }

  get knowsTools(): boolean {
    return /\btools\b/.test(this.source);
  }

  /** The prompt up to where the assistant speaks. Throws `invalid_request` when the template refuses the messages. */
  render(input: PromptInput): string {
    try {
      return this.#render(input, input.messages);
    } catch (error) {
      if (error instanceof ApiError) throw error;
      const folded = foldSystem(input.messages);
      if (folded !== null) {
        try {
          return this.#render(input, folded);
        } catch {
          // The first failure tells more.
        }
      }
      const reason = error instanceof Error ? error.message : String(error);
      throw new ApiError("invalid_request", `the model's chat template cannot render these messages: ${reason}`, {
        param: "messages",
        cause: error,
      });
    }
  }

  #render(input: PromptInput, messages: readonly Message[]): string {
    const spelling = { developer: this.source.includes("developer"), shortIds: /length\s*!=\s*9\b/.test(this.source) };
    const { reasoningEffort } = input;
    return this.#template.render({
      messages: messages.map((message) => toTemplateMessage(message, spelling)),
      ...(input.tools.length === 0 ? {} : { tools: input.tools.map(toTemplateTool) }),
      add_generation_prompt: true,
      bos_token: input.bosText,
      eos_token: input.eosText,
      ...(reasoningEffort === undefined
        ? {}
        : { enable_thinking: reasoningEffort !== "none", reasoning_effort: reasoningEffort }),
      ...input.variables,
    });
  }
}

/** ChatML without a template engine: for models that bring no template, and where `useJinja` is off. */
export function renderChatml(messages: readonly Message[]): string {
  const turns = messages.map((message) => {
    const role = message.role === "developer" ? "system" : message.role;
    return `<|im_start|>${role}\n${joinText(message.content)}<|im_end|>\n`;
  });
  return `${turns.join("")}<|im_start|>assistant\n`;
}

/** Text parts of a message, one under the other. Throws `unsupported_capability` on an image. */
function joinText(parts: readonly Part[]): string {
  const texts = parts.map((part) => {
    if (part.type === "text") return part.text;
    throw new ApiError("unsupported_capability", "the embedded llama.cpp reads text only; the messages hold an image", {
      param: "messages",
    });
  });
  return texts.join("\n");
}

function toTemplateMessage(message: Message, spelling: Spelling): JsonObject {
  const content = joinText(message.content);
  switch (message.role) {
    case "system":
    case "developer":
      return { role: message.role === "developer" && spelling.developer ? "developer" : "system", content };
    case "user":
      return { role: "user", content };
    case "tool":
      return {
        role: "tool",
        content,
        tool_call_id: toCallId(message.toolCallId, spelling),
        ...(message.name === undefined ? {} : { name: message.name }),
      };
    case "assistant":
      return {
        role: "assistant",
        content,
        ...(message.reasoning === undefined ? {} : { reasoning_content: message.reasoning }),
        ...(message.toolCalls.length === 0
          ? {}
          : {
              tool_calls: message.toolCalls.map((call) => ({
                id: toCallId(call.id, spelling),
                type: "function",
                function: { name: call.name, arguments: readArguments(call.arguments) },
              })),
            }),
      };
  }
}

/** Mistral's templates refuse ids of calls that are not nine letters and digits: others become such, alike for alike. */
function toCallId(id: string, spelling: Spelling): string {
  if (!spelling.shortIds || /^[a-zA-Z0-9]{9}$/.test(id)) return id;
  return createHash("sha256").update(id).digest("hex").slice(0, 9);
}

/** Templates print arguments with `tojson`, so they get an object; broken ones of a history stay text. */
function readArguments(text: string): Json {
  try {
    const value = JSON.parse(text) as Json;
    return isObject(value) ? value : text;
  } catch {
    return text;
  }
}

function toTemplateTool(tool: Tool): JsonObject {
  return {
    type: "function",
    function: { name: tool.name, description: tool.description ?? "", parameters: tool.parameters },
  };
}

/** For templates without a system role: its text goes before the first user message. Null when there is nothing to fold. */
function foldSystem(messages: readonly Message[]): Message[] | null {
  const system = messages.filter((message) => message.role === "system" || message.role === "developer");
  const rest = messages.filter((message) => !system.includes(message));
  const first = rest.findIndex((message) => message.role === "user");
  const user = rest[first];
  if (system.length === 0 || user === undefined) return null;
  const content = [...system.flatMap((message) => message.content), ...user.content];
  return rest.with(first, { ...user, content } as Message);
}
