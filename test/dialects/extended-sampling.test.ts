import { describe, expect, test } from "vitest";
import {
  decodeSampling,
  decodeRequest,
  encodeRequest,
  encodeSampling,
} from "../../src/dialects/openai-chat/request.ts";

const chat = { messages: [{ role: "user", content: "hi" }] };
/** Every field as llama-server names it. */
const wire = {
  repeat_last_n: -1,
  typical_p: 0.9,
  top_n_sigma: 1.5,
  xtc_probability: 0.5,
  xtc_threshold: 0.1,
  dry_multiplier: 0.8,
  dry_base: 1.75,
  dry_allowed_length: 2,
  dry_penalty_last_n: 512,
  dry_sequence_breakers: ["\n", "*"],
  dynatemp_range: 0.2,
  dynatemp_exponent: 1.5,
  mirostat: 2,
  mirostat_tau: 5,
  mirostat_eta: 0.1,
  min_keep: 1,
  min_tokens: 3,
  samplers: ["dry", "top_k", "typ_p", "temperature"],
  ignore_eos: true,
  "speculative.n_max": 0,
} as const;

describe("sampling as llama-server names it", () => {
  test("is read, and sent on to servers of that kind, unchanged", () => {
    const sampling = decodeSampling(structuredClone(wire) as never);
    expect(sampling).toMatchObject({ typicalP: 0.9, xtcProbability: 0.5, repeatLastN: -1, draftMax: 0 });
    expect(encodeSampling(sampling)).toEqual(wire);
    const request = decodeRequest({ ...chat, ...structuredClone(wire), own: 1 } as never, "m", {});
    expect(request.extra).toEqual({ own: 1 });
    expect(encodeRequest(request)).toMatchObject({ ...wire, own: 1 });
  });

  test("has other spellings: n_predict, n_probs, letters and hyphens for samplers, biases as a list", () => {
    expect(decodeSampling({ n_predict: 9 }).maxTokens).toBe(9);
    expect(decodeRequest({ ...chat, n_probs: 4 }, "m", {}).topLogprobs).toBe(4);
    expect(decodeRequest({ ...chat, n_probs: 0 }, "m", {}).topLogprobs).toBeUndefined();
    expect(decodeSampling({ samplers: "edskypmxt" }).samplers).toEqual([
      "penalties",
      "dry",
      "top_n_sigma",
      "top_k",
      "typ_p",
      "top_p",
      "min_p",
      "xtc",
      "temperature",
    ]);
    expect(decodeSampling({ samplers: ["top-k", "typical", "temp"] }).samplers).toEqual([
      "top_k",
      "typ_p",
      "temperature",
    ]);
    expect(
      decodeSampling({
        logit_bias: [
          [15, 2.5],
          [16, false],
        ],
      }).logitBias,
    ).toEqual({ 15: 2.5, 16: -100 });
  });

  const refused: [body: object, param: string][] = [
    [{ typical_p: 1.1 }, "typical_p"],
    [{ mirostat: 3 }, "mirostat"],
    [{ mirostat: 0.5 }, "mirostat"],
    [{ dry_base: 0.5 }, "dry_base"],
    [{ repeat_last_n: -2 }, "repeat_last_n"],
    [{ dry_sequence_breakers: [1] }, "dry_sequence_breakers[0]"],
    [{ dry_sequence_breakers: Array.from({ length: 17 }, String) }, "dry_sequence_breakers"],
    [{ samplers: ["top_k", "magic"] }, "samplers[1]"],
    [{ ignore_eos: "yes" }, "ignore_eos"],
    [{ logit_bias: [["hello", 1]] }, "logit_bias[0]"],
    [{ logit_bias: [[5, 101]] }, "logit_bias[0].bias"],
  ];
  test.for(refused)("refuses %j, naming the field", ([body, param]) => {
    expect(() => decodeSampling(body as never)).toThrow(expect.objectContaining({ param }));
  });
});
