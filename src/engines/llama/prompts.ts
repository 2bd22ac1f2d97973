import { randomBytes } from "node:crypto";
import type { ChatRequest, Tool } from "../../core/chat.ts";
import { detectFamily, opensReasoning } from "../parsers/families.ts";
import type { Family } from "../parsers/family.ts";
import type { AnswerParser } from "../parsers/parser.ts";
import { ChatTemplate, renderChatml } from "../templates/chat-template.ts";
import { withToolPrompt } from "../templates/hermes-prompt.ts";
import { buildGrammar } from "./answer-grammar.ts";
import type { GenerateJob, LoadedModel } from "./messages.ts";
import { type LlamaSettings, toSampling } from "./settings.ts";

/** A chat ready for the worker, and the parser of what it will say. */
export interface PreparedChat {
  readonly job: GenerateJob;
  readonly parser: AnswerParser;
  /** Schema keywords that the grammar had to leave out. */
  readonly loosened: string[];
}

/** Turns chats into prompts as the loaded model wants them. */
export class Prompts {
  readonly #model: LoadedModel;
  readonly #settings: LlamaSettings;
  readonly #template: ChatTemplate | null;
  readonly #family: Family;
  /** What is amiss with the model's template; to be logged once. */
  readonly warning: string | null;

  constructor(model: LoadedModel, settings: LlamaSettings) {
    this.#model = model;
    this.#settings = settings;
    const opened = settings.useJinja === false ? null : openTemplate(model);
    this.#template = opened?.template ?? null;
    this.warning = opened?.warning ?? null;
    this.#family = detectFamily(this.#template?.source ?? null);
  }

  /** Throws `ApiError` when the template refuses the messages or a schema cannot be expressed. */
  prepare(id: number, request: ChatRequest): PreparedChat {
    const tools = request.toolChoice === "none" ? [] : [...request.tools];
    const prompt = this.#render(request, tools);
    const opened = opensReasoning(this.#family, prompt);
    const { grammar, loosened } = buildGrammar(request, { tools, opened, family: this.#family });
    const newId = (): string => `call_${randomBytes(12).toString("hex")}`;
    return {
      job: {
        type: "generate",
        id,
        prompt,
        param: "messages",
        sampling: toSampling(request, this.#settings),
        maxTokens: request.maxTokens ?? this.#settings.maxNewTokens ?? null,
        stop: [...request.stop],
        topLogprobs: request.topLogprobs ?? null,
        preserved: [...this.#family.preserved],
        grammar,
        session: request.session ?? null,
      },
      parser: this.#family.createParser({ tools, newId, opened }),
      loosened,
    };
  }

  #render(request: ChatRequest, tools: Tool[]): string {
    const template = this.#template;
    if (template === null) return renderChatml(withToolPrompt(request.messages, tools));
    const native = tools.length === 0 || template.knowsTools;
    const prompt = template.render({
      messages: native ? request.messages : withToolPrompt(request.messages, tools),
      tools: native ? tools : [],
      bosText: this.#model.bosText,
      eosText: this.#model.eosText,
      ...(request.reasoningEffort === undefined ? {} : { reasoningEffort: request.reasoningEffort }),
      ...(request.templateVariables === undefined ? {} : { variables: request.templateVariables }),
    });
    // The tokenizer adds the begin token itself; templates often write it too.
    const { addsBos, bosText } = this.#model;
    return addsBos && bosText !== "" && prompt.startsWith(bosText) ? prompt.slice(bosText.length) : prompt;
  }
}

function openTemplate(model: LoadedModel): { template: ChatTemplate | null; warning: string | null } {
  if (model.template === null) {
    return { template: null, warning: "the model brings no chat template: its prompts are written as ChatML" };
  }
  try {
    return { template: new ChatTemplate(model.template), warning: null };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return {
      template: null,
      warning: `the model's chat template cannot be read (${reason}): its prompts are written as ChatML`,
    };
  }
}
