import { closeSync, openSync, writeSync } from "node:fs";

/** A metadata value with its GGUF type. */
export type GgufValue =
  | { readonly type: "u32" | "i32" | "f32"; readonly value: number }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "i32s"; readonly value: readonly number[] };

export type TensorType = "f32" | "f16" | "q8_0" | "q4_0";

/** A tensor to be written; `fill` is called once, when its turn comes, so that big files need little memory. */
export interface Tensor {
  readonly name: string;
  readonly type: TensorType;
  /** Dimensions as GGUF orders them: the fastest-running first. */
  readonly shape: readonly number[];
  readonly fill: (bytes: number) => Uint8Array;
}

export interface GgufContent {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly Tensor[];
}

// Numbers of the GGUF v3 specification (ggml/docs/gguf.md).
const valueTypes = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;
const tensorTypes: Record<TensorType, number> = { f32: 0, f16: 1, q4_0: 2, q8_0: 8 };
const alignment = 32;

/** Writes a GGUF v3 file; the same content always gives the same bytes. Throws when a tensor's `fill` returns the wrong size. */
export function writeGguf(path: string, content: GgufContent): void {
  const file = openSync(path, "w");
  try {
    writeFully(file, encodeHeader(content));
    for (const tensor of content.tensors) {
      const size = tensorBytes(tensor.type, tensor.shape);
      const bytes = tensor.fill(size);
      if (bytes.length !== size) throw new Error(`tensor ${tensor.name} has ${bytes.length} bytes instead of ${size}`);
      writeFully(file, bytes);
      writeFully(file, Buffer.alloc(padding(size)));
    }
  } finally {
    closeSync(file);
  }
}

/** Bytes of a tensor: quantised types hold 32 weights in a block. */
export function tensorBytes(type: TensorType, shape: readonly number[]): number {
  const weights = shape.reduce((product, length) => product * length, 1);
  const perBlock = { f32: 128, f16: 64, q8_0: 34, q4_0: 18 }[type];
  return (weights / 32) * perBlock;
}

function encodeHeader(content: GgufContent): Buffer {
  const out = new ByteWriter();
  out.bytes(Buffer.from("GGUF"));
  out.u32(3);
  out.u64(content.tensors.length);
  out.u64(content.metadata.size);
  for (const [key, value] of content.metadata) {
    out.string(key);
    out.value(value);
  }
  let offset = 0;
  for (const tensor of content.tensors) {
    out.string(tensor.name);
    out.u32(tensor.shape.length);
    for (const length of tensor.shape) out.u64(length);
    out.u32(tensorTypes[tensor.type]);
    out.u64(offset);
    const size = tensorBytes(tensor.type, tensor.shape);
    offset += size + padding(size);
  }
  out.bytes(Buffer.alloc(padding(out.length)));
  return out.toBuffer();
}

function padding(size: number): number {
  return (alignment - (size % alignment)) % alignment;
}

function writeFully(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += writeSync(file, bytes, done, Math.min(bytes.length - done, 1 << 26));
}

class ByteWriter {
  length = 0;
  readonly #parts: Uint8Array[] = [];

  bytes(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.length += bytes.length;
  }

  u32(value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value >>> 0);
    this.bytes(bytes);
  }

  u64(value: number): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    this.bytes(bytes);
  }

  f32(value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    this.bytes(bytes);
  }

  string(text: string): void {
    const bytes = Buffer.from(text);
    this.u64(bytes.length);
    this.bytes(bytes);
  }

  value(value: GgufValue): void {
    switch (value.type) {
      case "strings":
        this.#array("string", value.value.length);
        for (const text of value.value) this.string(text);
        break;
      case "i32s":
        this.#array("i32", value.value.length);
        for (const number of value.value) this.u32(number);
        break;
      case "string":
        this.u32(valueTypes.string);
        this.string(value.value);
        break;
      case "bool":
        this.u32(valueTypes.bool);
        this.bytes(Buffer.from([value.value ? 1 : 0]));
        break;
      case "f32":
        this.u32(valueTypes.f32);
        this.f32(value.value);
        break;
      default:
        this.u32(valueTypes[value.type]);
        this.u32(value.value);
    }
  }

  #array(type: "string" | "i32", length: number): void {
    this.u32(valueTypes.array);
    this.u32(valueTypes[type]);
    this.u64(length);
  }

  toBuffer(): Buffer {
    return Buffer.concat(this.#parts, this.length);
  }
}
