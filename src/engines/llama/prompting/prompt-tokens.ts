import type { Failure, GapPrompt, GenerateJob } from "../messages.ts";
import type { Vocabulary } from "../native/native-model.ts";

/** Share of the room for prefix and suffix that the suffix has at most where both do not fit, as llama-server has it. */
const suffixShare = 0.25;

/** A job's prompt as tokens of the model; or why it cannot be one. `limit`: tokens of context. */
export function toPromptTokens(
  vocabulary: Vocabulary,
  job: Pick<GenerateJob, "prompt" | "param" | "maxTokens">,
  limit: number,
): number[] | Failure {
  const { param } = job;
  const tokens = readPrompt(vocabulary, job, limit);
  if (!Array.isArray(tokens)) return tokens;
  const unknown = tokens.find((token) => !vocabulary.has(token));
  if (unknown !== undefined) {
    const message = `the prompt holds token ${unknown}; this model's tokens are 0 … ${vocabulary.size - 1}`;
    return { code: "invalid_value", message, param };
  }
  if (tokens.length === 0) return { code: "invalid_value", message: "the prompt is empty", param };
  if (tokens.length >= limit) {
    const message = `This model's maximum context length is ${limit} tokens. However, your messages resulted in ${tokens.length} tokens.`;
    return { code: "context_length_exceeded", message, param };
  }
  return tokens;
}

function readPrompt(
  vocabulary: Vocabulary,
  { prompt, maxTokens }: Pick<GenerateJob, "prompt" | "maxTokens">,
  limit: number,
): number[] | Failure {
  if (typeof prompt === "string") return vocabulary.tokenize(prompt, { addSpecial: true, parseSpecial: true });
  if (Array.isArray(prompt)) return prompt;
  if ("pieces" in prompt) return vocabulary.tokenizePieces(prompt.pieces);
  const marks = vocabulary.gapMarks;
  if (marks.prefix < 0 || marks.suffix < 0 || marks.middle < 0) {
    return {
      code: "unsupported_capability",
      message: "this model was not trained to fill gaps: it has no tokens for prefix, suffix and middle",
      param: prompt.files === null ? "suffix" : "input_suffix",
    };
  }
  // What is left for the answer where the request does not say.
  const answer = Math.min(maxTokens ?? 256, Math.floor(limit / 2));
  return gapTokens(vocabulary, prompt, limit - answer - 1);
}

/**
 * Prefix and suffix around a gap, in the order of the field (prefix, suffix, middle), after the project's other files.
 * Texts never count as control tokens. `room`: tokens that the prompt may have, where it may be cut.
 */
function gapTokens(vocabulary: Vocabulary, prompt: GapPrompt, room: number): number[] {
  const { prefix, suffix, middle } = vocabulary.gapMarks;
  const plain = (text: string): number[] => vocabulary.tokenize(text, { addSpecial: false, parseSpecial: false });
  const begin = vocabulary.addsBos && vocabulary.bos >= 0 ? [vocabulary.bos] : [];
  let before = plain(prompt.prefix);
  let after = plain(prompt.suffix);
  if (prompt.files === null) return [...begin, prefix, ...before, suffix, ...after, middle];
  const free = Math.max(0, room - begin.length - 3);
  if (before.length + after.length > free) {
    after = after.slice(0, Math.max(Math.floor(free * suffixShare), free - before.length));
    before = before.slice(before.length - (free - after.length));
  }
  const files = fileTokens(vocabulary, prompt.files, free - before.length - after.length);
  return [...begin, ...files, prefix, ...before, suffix, ...after, middle];
}

/** The last of the files that fit, whole, as the Qwen2.5-Coder report (arXiv 2409.12186) lays out a repository. */
function fileTokens(vocabulary: Vocabulary, files: NonNullable<GapPrompt["files"]>, room: number): number[] {
  const { repository, file } = vocabulary.gapMarks;
  const plain = (text: string): number[] => vocabulary.tokenize(text, { addSpecial: false, parseSpecial: false });
  const head = repository < 0 ? [] : [repository, ...plain("project\n")];
  // The file with the gap has a name too, where files have names.
  const tail = file < 0 ? [] : [file, ...plain("file\n")];
  const kept: number[][] = [];
  let left = room - head.length - tail.length;
  for (const { name, text } of files.toReversed()) {
    const opening = file < 0 ? plain("\n\n--- snippet ---\n\n") : [file, ...plain(`${name}\n`)];
    const tokens = [...opening, ...plain(text)];
    left -= tokens.length;
    if (left < 0) break;
    kept.unshift(tokens);
  }
  return kept.length === 0 ? [] : [...head, ...kept.flat(), ...tail];
}
