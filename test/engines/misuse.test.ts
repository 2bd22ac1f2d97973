import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LlamaLibrary, loadLibrary } from "../../src/engines/llama/native/binding.ts";
import { DrySamplers } from "../../src/engines/llama/generation/dry-samplers.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { GrammarState } from "../../src/engines/llama/generation/grammar-state.ts";
import { NativeContext, type Row } from "../../src/engines/llama/native/native-context.ts";
import { contextParams, NativeModel } from "../../src/engines/llama/native/native-model.ts";
import { openContext } from "../../src/engines/llama/native/open-context.ts";
import { Candidates, Sampler } from "../../src/engines/llama/generation/sampler.ts";
import { toSampling, toWorkerSettings } from "../../src/engines/llama/settings.ts";
import { randomDecoder } from "../support/gguf.ts";

// Each of these ends the process where it reaches llama.cpp (measured: aborts, or writes to memory that is gone). That
// the tests after it run at all is half of what each test says.

const folder = mkdtempSync(join(tmpdir(), "lair-misuse-"));
const path = join(folder, "model.gguf");
const settings = toWorkerSettings({ contextLength: 256, maxSessions: 2, batchSize: 8, threads: 1 }, path, 1);
let library: LlamaLibrary;
let model: NativeModel;
let context: NativeContext;
let tools: { candidates: Candidates; dry: DrySamplers };

beforeAll(async () => {
  writeGguf(path, randomDecoder({ architecture: "llama" }));
  library = await loadLibrary();
  model = NativeModel.load(library, settings, () => undefined);
  context = open(model);
  tools = { candidates: new Candidates(library, model.vocabulary.size), dry: new DrySamplers(model) };
});
afterAll(() => {
  context.free();
  tools.dry.free();
  model.free();
  rmSync(folder, { recursive: true, force: true });
});

function open(owner: NativeModel): NativeContext {
  return openContext(owner, { settings, contextLength: 256, interrupt: new SharedArrayBuffer(8) });
}

function row(more: Partial<Row> = {}): Row {
  return { token: 5, position: 0, sequence: 0, output: false, ...more };
}

function newSampler(): Sampler {
  return new Sampler(model, tools, toSampling({ seed: 1 }, {}));
}

/** What still works when the process is whole. */
function decodesOne(): void {
  context.clear();
  expect(context.decode([row({ output: true })])).toBe("done");
  expect(context.logits(0)).toHaveLength(model.vocabulary.size);
}

describe("a batch", () => {
  it.each<[string, Partial<Row>]>([
    ["a token that the vocabulary lacks", { token: 1 << 20 }],
    ["a negative token", { token: -1 }],
    ["half a token", { token: 1.5 }],
    ["a sequence that there is not", { sequence: 2 }],
    ["half a sequence", { sequence: 0.5 }],
    ["a negative position", { position: -1 }],
    ["a position that wraps around", { position: 2 ** 32 }],
  ])("with %s is refused", (_, wrong) => {
    expect(() => context.decode([row(wrong)])).toThrow(/row out of range/);
    decodesOne();
  });

  it("without rows, of too many, or with too many logits is refused", () => {
    expect(() => context.decode([])).toThrow(/without rows/);
    const rows = Array.from({ length: 9 }, (_, position) => row({ position }));
    expect(() => context.decode(rows)).toThrow(/more than 8 rows/);
    expect(context.rows).toBe(0);
    const params = { ...contextParams(library, settings), n_ctx: 256, n_batch: 8, n_ubatch: 8, n_outputs_max: 2 };
    const narrow = new NativeContext(model, params);
    const outputs = Array.from({ length: 3 }, (_, position) => row({ position, output: true }));
    expect(() => narrow.decode(outputs)).toThrow(/logits of more than 2/);
    narrow.free();
    decodesOne();
  });

  it("that leaves a gap between positions is refused by llama.cpp, which goes on", () => {
    context.clear();
    context.decode([row()]);
    expect(() => context.decode([row({ position: 9 })])).toThrow(/could not compute/);
    decodesOne();
  });
});

describe("results", () => {
  it("of a row without logits, of none, and of a batch that is being made are refused", () => {
    context.clear();
    context.decode([row(), row({ position: 1, output: true })]);
    for (const wrong of [0, 2, -1, 0.5, Number.NaN]) expect(() => context.logits(wrong)).toThrow(/no logits/);
    const sampler = newSampler();
    expect(() => sampler.sample(context, 0)).toThrow(/no logits/);
    context.addRow(5, 2, 0, false);
    expect(() => sampler.sample(context, 1)).toThrow(/no logits/);
    context.decode();
    sampler.free();
    decodesOne();
  });

  it("of a sequence that was not computed, or longer than the model's, are refused", () => {
    decodesOne();
    expect(() => context.embedding(1, 4)).toThrow(/was not in the last batch/);
    expect(() => context.embedding(0, 1 << 24)).toThrow(/the model gives/);
    decodesOne();
  });
});

describe("the memory of sequences", () => {
  it("is not touched for one that there is not", () => {
    for (const wrong of [-1, 2, 0.5, 1e9]) {
      expect(() => context.copy(0, wrong)).toThrow(RangeError);
      expect(() => context.copy(wrong, 0)).toThrow(RangeError);
      expect(() => context.truncate(wrong, 0)).toThrow(RangeError);
      expect(() => context.forget(wrong)).toThrow(RangeError);
      expect(() => context.lengthOf(wrong)).toThrow(RangeError);
      expect(() => context.stateBytes(wrong)).toThrow(RangeError);
      expect(() => context.readState(wrong)).toThrow(RangeError);
      expect(() => context.writeState(wrong, new Uint8Array(8))).toThrow(RangeError);
    }
    decodesOne();
  });

  it("is copied as a whole, where llama.cpp aborts on a part", () => {
    context.clear();
    context.decode([row(), row({ position: 1 }), row({ position: 2 })]);
    context.copy(0, 1);
    expect(context.truncate(1, 2)).toBe(true);
    expect(context.decode([row({ sequence: 1, position: 2, output: true })])).toBe("done");
    expect([context.lengthOf(0), context.lengthOf(1)]).toEqual([3, 3]);
  });

  it("does not take bytes that are no state", () => {
    decodesOne();
    expect(context.writeState(1, Buffer.alloc(64, 7))).toBe(false);
    expect(context.writeState(1, Buffer.alloc(0))).toBe(false);
    const state = context.readState(0);
    expect(state).not.toBe(null);
    expect(context.writeState(1, (state as Buffer).subarray(0, 40))).toBe(false);
    decodesOne();
  });
});

describe("a grammar", () => {
  const grammarOf = (text: string): GrammarState | null =>
    GrammarState.create(text, { model, candidates: tools.candidates }, new Set());
  const tokenOf = (text: string): number =>
    model.vocabulary.tokenize(text, { addSpecial: false, parseSpecial: false })[0]!;

  it("that llama.cpp cannot read is none", () => {
    for (const text of ["", "\0", 'root ::= "a"\0', "root ::= missing", "root ::= (((", "nothing"])
      expect(grammarOf(text)).toBe(null);
    decodesOne();
  });

  it("does not go on by a token that it forbids, which is an exception across languages", () => {
    const grammar = grammarOf('root ::= "a" "b"');
    expect(grammar?.allows(tokenOf("z"))).toBe(false);
    expect(() => grammar?.accept(tokenOf("z"))).toThrow(/was not asked about/);
    expect(grammar?.allows(tokenOf("a"))).toBe(true);
    grammar?.accept(tokenOf("a"));
    // What was allowed a token ago is not allowed now.
    expect(() => grammar?.accept(tokenOf("a"))).toThrow(/was not asked about/);
    expect(grammar?.allows(tokenOf("b"))).toBe(true);
    grammar?.free();
    grammar?.free();
    expect(() => grammar?.allows(tokenOf("b"))).toThrow(/freed/);
    decodesOne();
  });
});

describe("what was freed", () => {
  it("a context is not used again", () => {
    const gone = open(model);
    gone.decode([row({ output: true })]);
    const sampler = newSampler();
    gone.free();
    gone.free();
    const uses = [
      () => gone.decode([row()]),
      () => gone.addRow(5, 0, 0, false),
      () => gone.logits(0),
      () => gone.embedding(0, 4),
      () => sampler.sample(gone, 0),
      () => gone.clear(),
      () => gone.copy(0, 1),
      () => gone.lengthOf(0),
      () => gone.readState(0),
      () => gone.setEmbeddings(true),
    ];
    for (const use of uses) expect(use).toThrow(/freed/);
    sampler.free();
    decodesOne();
  });

  it("a sampler is not used again, nor with another model's context", () => {
    decodesOne();
    const sampler = newSampler();
    sampler.free();
    sampler.free();
    expect(() => sampler.sample(context, 0)).toThrow(/freed/);
    expect(() => sampler.remember([5])).toThrow(/freed/);
    const other = NativeModel.load(library, settings, () => undefined);
    const foreign = open(other);
    foreign.decode([row({ output: true })]);
    const own = newSampler();
    expect(() => own.sample(foreign, 0)).toThrow(/another model/);
    own.free();
    foreign.free();
    other.free();
    decodesOne();
  });

  it("a model is not freed under a context, nor used again", () => {
    const other = NativeModel.load(library, settings, () => undefined);
    const its = open(other);
    expect(() => other.free()).toThrow(/1 contexts that are not freed/);
    its.free();
    other.free();
    other.free();
    const { vocabulary } = other;
    const uses = [
      () => other.trainedContext,
      () => other.description,
      () => other.chatTemplate(),
      () => open(other),
      () => vocabulary.tokenize("Hi", { addSpecial: true, parseSpecial: true }),
      () => vocabulary.detokenize([5]),
      () => vocabulary.piece(7),
      () => vocabulary.endsGeneration(5),
    ];
    for (const use of uses) expect(use).toThrow(/freed/);
    decodesOne();
  });
});

describe("a vocabulary", () => {
  it("knows no token that it lacks", () => {
    const { vocabulary } = model;
    for (const wrong of [-1, vocabulary.size, 1.5, Number.NaN, 1e12]) {
      expect(vocabulary.piece(wrong)).toHaveLength(0);
      expect(vocabulary.endsGeneration(wrong)).toBe(false);
      expect(vocabulary.isControl(wrong)).toBe(false);
      expect(vocabulary.detokenize([wrong])).toBe("");
    }
    decodesOne();
  });
});
