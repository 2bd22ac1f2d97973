import type { Message, Tool } from "../../core/chat.ts";
import { ApiError } from "../../core/errors.ts";
import type { JsonObject } from "../../core/json.ts";
import { withToolPrompt } from "./hermes-prompt.ts";
import { BudgetError } from "./jinja/budget.ts";
import { formatTime } from "./jinja/format.ts";
import { strftimeAt } from "./jinja/globals.ts";
import { fromJson } from "./jinja/json.ts";
import { Template } from "./jinja/template.ts";
import type { Value } from "./jinja/values.ts";
import { toPlainTools } from "./plain-tools.ts";
import { reasoningVariables } from "./reasoning-variables.ts";
import { fitMessages, toTemplateMessages } from "./template-messages.ts";
import { findTraits, type TemplateTraits } from "./template-traits.ts";
import { wantsDeepseekPrompt, withDeepseekPrompt } from "./tool-prompts.ts";

/** What a prompt is rendered from. */
export interface PromptInput {
  readonly messages: readonly Message[];
  readonly tools: readonly Tool[];
  readonly reasoningEffort?: string | undefined;
  /** Variables of the caller's, which go before all others. */
  readonly variables?: JsonObject | undefined;
  readonly bosText: string;
  readonly eosText: string;
  /** Default: the present. */
  readonly now?: Date;
}

/** A prompt as rendered. */
export interface RenderedPrompt {
  readonly text: string;
  /** The prompt ends inside the assistant's reasoning or answer that the request began; null: the model begins. */
  readonly continues: "reasoning" | "answer" | null;
}

/** Units of work for a conversation of a few words; real templates take a hundredth. */
const probeBudget = 200_000;

/** A noncharacter that stands where an assistant's message that is to be continued ends. */
const endMark = "\ufdd1";

/** A model's own Jinja chat template, compiled and probed once. */
export class ChatTemplate {
  readonly source: string;
  readonly traits: TemplateTraits;
  readonly #template: Template;

  /** Throws when the source is no Jinja that the renderer reads. */
  constructor(source: string) {
    this.source = source;
    this.#template = new Template(source);
    const common: JsonObject = { bos_token: "", eos_token: "", add_generation_prompt: true };
    this.traits = findTraits(source, (messages, variables) => {
      try {
        return this.#template.render(toVariables({ ...common, ...variables, messages }, new Date(0)), probeBudget);
      } catch (error) {
        if (error instanceof BudgetError) throw error;
        return null;
      }
    });
  }

  /** Who tells the model of its tools: its template, we in the words of DeepSeek V3.1, or we in Hermes's. */
  get toolPrompt(): "own" | "deepseek-v3.1" | "hermes" {
    if (this.traits.tools) return "own";
    return wantsDeepseekPrompt(this.source) ? "deepseek-v3.1" : "hermes";
  }

  /**
   * The prompt up to where the assistant speaks, or goes on where the last message is the assistant's own. Throws
   * `invalid_request` when the template refuses the messages.
   */
  render(input: PromptInput): RenderedPrompt {
    const messages = this.#withTools(input);
    const last = messages.at(-1);
    if (last?.role !== "assistant" || last.toolCalls.length > 0) {
      return { text: this.#render(input, messages, true), continues: null };
    }
    return this.#continue(input, messages, last);
  }

  #withTools({ messages, tools }: PromptInput): Message[] {
    if (tools.length === 0 || this.toolPrompt === "own") return [...messages];
    return this.toolPrompt === "hermes" ? withToolPrompt(messages, tools) : withDeepseekPrompt(messages, tools);
  }

  #continue(input: PromptInput, messages: Message[], last: Message & { role: "assistant" }): RenderedPrompt {
    const before = messages.slice(0, -1);
    const { content, reasoning = "" } = last;
    const answers = content.some((part) => part.type === "text" && part.text !== "");
    if (!answers && reasoning === "") return { text: this.#render(input, before, true), continues: null };
    const marked: Message = answers
      ? { ...last, content: content.map((part, index) => (index === content.length - 1 ? withEndMark(part) : part)) }
      : { ...last, reasoning: reasoning + endMark };
    const text = this.#render(input, [...before, marked], false);
    const end = text.lastIndexOf(endMark);
    if (end >= 0) return { text: text.slice(0, end), continues: answers ? "answer" : "reasoning" };
    // A template that prints no such message: what was said stands behind its invitation to speak.
    const said = content.map((part) => (part.type === "text" ? part.text : "")).join("\n");
    return { text: this.#render(input, before, true) + said, continues: answers ? "answer" : null };
  }

  #render(input: PromptInput, messages: readonly Message[], invites: boolean): string {
    try {
      return this.#template.render(this.#variables(input, messages, invites), renderBudget(messages));
    } catch (error) {
      if (error instanceof ApiError) throw error;
      const plain = input.tools.length === 0 ? null : this.#renderPlain(input, messages, invites);
      if (plain !== null) return plain;
      const reason = error instanceof Error ? error.message : String(error);
      throw new ApiError("invalid_request", `the model's chat template cannot render these messages: ${reason}`, {
        param: "messages",
        cause: error,
      });
    }
  }

  /** For templates that cannot read the tools' schemas. */
  #renderPlain(input: PromptInput, messages: readonly Message[], invites: boolean): string | null {
    try {
      const tools = toPlainTools(input.tools);
      return this.#template.render(this.#variables({ ...input, tools }, messages, invites), renderBudget(messages));
    } catch {
      // What was said of the tools as they are tells more.
      return null;
    }
  }

  #variables(input: PromptInput, messages: readonly Message[], invites: boolean): Map<string, Value> {
    const { now = new Date() } = input;
    const { traits, source } = this;
    const tools = traits.tools ? input.tools.map((tool) => toTemplateTool(tool, traits)) : [];
    return toVariables(
      {
        add_generation_prompt: invites,
        bos_token: input.bosText,
        eos_token: input.eosText,
        ...(tools.length === 0 ? {} : { tools }),
        // The day without the time: a prompt that changes by the second is never found in a cache.
        ...(traits.functionsText
          ? { functions: JSON.stringify(tools, null, 2), datetime: formatTime(now, "%b %d %Y") }
          : {}),
        ...reasoningVariables(input.reasoningEffort, source),
        ...input.variables,
        messages: toTemplateMessages(fitMessages(messages, traits, source), traits),
      },
      now,
    );
  }
}

/** Some templates look through all messages for each of them. */
function renderBudget(messages: readonly Message[]): number {
  return 3_000_000 + 20 * messages.length ** 2;
}

function withEndMark(part: Message["content"][number]): Message["content"][number] {
  return part.type === "text" ? { ...part, text: part.text + endMark } : part;
}

function toVariables(json: JsonObject, now: Date): Map<string, Value> {
  const variables = new Map<string, Value>([["strftime_now", strftimeAt(now)]]);
  for (const [name, value] of Object.entries(json)) if (value !== undefined) variables.set(name, fromJson(value));
  return variables;
}

/** A tool as OpenAI writes it, its schema as the caller wrote it. */
function toTemplateTool({ name, description, parameters, strict }: Tool, traits: TemplateTraits): JsonObject {
  const described = description ?? (traits.describedTools ? "" : undefined);
  return {
    type: "function",
    function: {
      name,
      ...(described === undefined ? {} : { description: described }),
      parameters,
      ...(strict === undefined ? {} : { strict }),
    },
  };
}
