import type { FileHandle } from "node:fs/promises";
import { tensorBlocks } from "./gguf-types.ts";

/** A metadata value as far as it is kept: of arrays only their length and, where they are short, what they hold. */
export type MetadataValue = string | number | boolean | GgufArray | null;

/** An array of the metadata. */
export interface GgufArray {
  readonly length: number;
  /** Empty for texts and for long arrays. */
  readonly numbers: readonly number[];
  /** Empty for numbers and for long arrays; a text that is too long is an empty one. */
  readonly texts: readonly string[];
}

/** What a GGUF file holds before its tensors' data. */
export interface RawHeader {
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  /** Weights of all tensors. */
  readonly parameters: number;
}

/** Why a file is no GGUF that can be loaded. */
export class GgufError extends Error {}

// Bounds: a hostile file must not make us allocate or loop without end. Real files stay far below.
const limits = {
  keys: 20_000,
  tensors: 200_000,
  keyBytes: 65_535,
  stringBytes: 64 * 1024 * 1024,
  arrayLength: 16_000_000,
  headerBytes: 512 * 1024 * 1024,
  dimensions: 4,
  keptStringBytes: 4 * 1024 * 1024,
  /** Arrays with a number for each layer are wanted, those with one for each token are not. */
  keptNumbers: 1024,
  /** Languages are wanted, tokens are not. */
  keptTexts: 64,
  keptTextBytes: 1024,
};

// Sizes of GGUF's scalar types by their number; 8 is a string, 9 an array.
const scalarBytes: Record<number, number> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
const typeString = 8;
const typeArray = 9;

/** Reads what comes before the tensors' data. Throws `GgufError` for what is no GGUF, is cut off, or goes beyond all reason. */
export class GgufReader {
  readonly #file: FileHandle;
  readonly #size: number;
  #buffer = Buffer.alloc(0);
  #at = 0;
  /** Position in the file of the buffer's start. */
  #base = 0;

  constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.#size = size;
  }

  async read(): Promise<RawHeader> {
    await this.#need(Math.min(4, this.#size));
    if (this.#buffer.toString("latin1", 0, 4) !== "GGUF")
      throw new GgufError("the file is no GGUF (its first bytes are not GGUF)");
    this.#at = 4;
    await this.#need(20);
    const version = this.#u32();
    if (version < 2 || version > 3) throw new GgufError(`the GGUF version is ${version}; 2 and 3 can be read`);
    const tensors = this.#count(limits.tensors, "tensors");
    const keys = this.#count(limits.keys, "metadata keys");
    const metadata = new Map<string, MetadataValue>();
    for (let index = 0; index < keys; index++) {
      const key = (await this.#string(limits.keyBytes)) ?? "";
      metadata.set(key, await this.#value());
    }
    return { metadata, parameters: await this.#tensors(tensors, metadata) };
  }

  /** Sums up the weights, and finds out whether the file ends before its last tensor. */
  async #tensors(count: number, metadata: Map<string, MetadataValue>): Promise<number> {
    let parameters = 0;
    let end = 0;
    for (let index = 0; index < count; index++) {
      const name = await this.#string(limits.keyBytes);
      await this.#need(4);
      const dimensions = this.#u32();
      if (dimensions > limits.dimensions) throw new GgufError(`the tensor ${name} has ${dimensions} dimensions`);
      await this.#need(dimensions * 8 + 12);
      let weights = 1;
      for (let dimension = 0; dimension < dimensions; dimension++) weights *= this.#u64();
      const block = tensorBlocks[this.#u32()];
      const offset = this.#u64();
      if (!Number.isSafeInteger(weights) || !Number.isSafeInteger(offset))
        throw new GgufError(`the tensor ${name} has an impossible size`);
      parameters += weights;
      end = Math.max(end, offset + (block === undefined ? 0 : (weights / block[0]) * block[1]));
    }
    const alignment = Number(metadata.get("general.alignment") ?? 32) || 32;
    const dataStart = Math.ceil((this.#base + this.#at) / alignment) * alignment;
    if (count > 0 && dataStart + end > this.#size) {
      throw new GgufError(`the file is cut off: its tensors need ${dataStart + end} bytes, it has ${this.#size}`);
    }
    return parameters;
  }

  async #value(): Promise<MetadataValue> {
    await this.#need(4);
    const type = this.#u32();
    if (type === typeString) return this.#string(limits.stringBytes);
    if (type === typeArray) return this.#array();
    const size = scalarBytes[type];
    if (size === undefined) throw new GgufError(`the metadata hold a value of unknown type ${type}`);
    await this.#need(size);
    return this.#scalar(type, size);
  }

  #scalar(type: number, size: number): number | boolean {
    const at = this.#at;
    this.#at += size;
    switch (type) {
      case 0:
        return this.#buffer.readUInt8(at);
      case 1:
        return this.#buffer.readInt8(at);
      case 2:
        return this.#buffer.readUInt16LE(at);
      case 3:
        return this.#buffer.readInt16LE(at);
      case 4:
        return this.#buffer.readUInt32LE(at);
      case 5:
        return this.#buffer.readInt32LE(at);
      case 6:
        return this.#buffer.readFloatLE(at);
      case 7:
        return this.#buffer.readUInt8(at) !== 0;
      case 10:
        return Number(this.#buffer.readBigUInt64LE(at));
      case 11:
        return Number(this.#buffer.readBigInt64LE(at));
      default:
        return this.#buffer.readDoubleLE(at);
    }
  }

  async #array(): Promise<GgufArray> {
    await this.#need(12);
    const type = this.#u32();
    const length = this.#count(limits.arrayLength, "elements of an array");
    const size = scalarBytes[type];
    if (size !== undefined) return { length, numbers: await this.#numbers(type, size, length), texts: [] };
    if (type !== typeString) throw new GgufError(`the metadata hold an array of unknown type ${type}`);
    return { length, numbers: [], texts: await this.#texts(length) };
  }

  async #texts(length: number): Promise<string[]> {
    const texts: string[] = [];
    for (let index = 0; index < length; index++) {
      // Awaiting for each of 150,000 tokens would cost more than the reading itself.
      if (this.#buffer.length - this.#at < 8) await this.#need(8);
      const bytes = this.#u64();
      if (bytes > limits.stringBytes) throw new GgufError(`the metadata hold a string of ${bytes} bytes`);
      const kept = bytes <= limits.keptTextBytes ? bytes : 0;
      if (length <= limits.keptTexts) {
        await this.#need(kept);
        texts.push(this.#buffer.toString("utf8", this.#at, this.#at + kept));
      }
      if (this.#buffer.length - this.#at >= bytes) this.#at += bytes;
      else await this.#skip(bytes);
    }
    return texts;
  }

  async #numbers(type: number, size: number, length: number): Promise<number[]> {
    if (length > limits.keptNumbers) {
      await this.#skip(length * size);
      return [];
    }
    await this.#need(length * size);
    return Array.from({ length }, () => Number(this.#scalar(type, size)));
  }

  async #string(limit: number): Promise<string | null> {
    await this.#need(8);
    const length = this.#u64();
    if (length > limit) throw new GgufError(`the metadata hold a string of ${length} bytes`);
    if (length > limits.keptStringBytes) {
      await this.#skip(length);
      return null;
    }
    await this.#need(length);
    this.#at += length;
    return this.#buffer.toString("utf8", this.#at - length, this.#at);
  }

  #count(limit: number, what: string): number {
    const count = this.#u64();
    if (count > limit) throw new GgufError(`the file claims ${count} ${what}; at most ${limit} are believed`);
    return count;
  }

  #u32(): number {
    this.#at += 4;
    return this.#buffer.readUInt32LE(this.#at - 4);
  }

  #u64(): number {
    this.#at += 8;
    return Number(this.#buffer.readBigUInt64LE(this.#at - 8));
  }

  async #skip(bytes: number): Promise<void> {
    const held = this.#buffer.length - this.#at;
    if (bytes <= held) {
      this.#at += bytes;
      return;
    }
    this.#base += this.#buffer.length + (bytes - held);
    if (this.#base > this.#size) throw this.#cutOff();
    this.#buffer = Buffer.alloc(0);
    this.#at = 0;
  }

  /** Makes `bytes` bytes readable at the present position. */
  async #need(bytes: number): Promise<void> {
    const held = this.#buffer.length - this.#at;
    if (held >= bytes) return;
    const position = this.#base + this.#at;
    if (position + bytes > this.#size) throw this.#cutOff();
    if (position > limits.headerBytes) throw new GgufError("the header is larger than any real model's");
    const room = Math.min(Math.max(bytes, 1 << 20), this.#size - position);
    const next = Buffer.alloc(room);
    const { bytesRead } = await this.#file.read(next, 0, room, position);
    if (bytesRead < bytes) throw this.#cutOff();
    this.#buffer = next.subarray(0, bytesRead);
    this.#base = position;
    this.#at = 0;
  }

  #cutOff(): GgufError {
    return new GgufError(`the file is cut off within its header (${this.#size} bytes)`);
  }
}
