/** One field of a GGUF file: where it lies and what it is. */
export interface Field {
  readonly kind:
    | "magic"
    | "version"
    | "tensor count"
    | "key count"
    | "key length"
    | "key"
    | "value type"
    | "array type"
    | "array length"
    | "string length"
    | "string"
    | "number"
    | "name length"
    | "name"
    | "dimension count"
    | "dimension"
    | "tensor type"
    | "tensor offset"
    | "padding"
    | "data";
  readonly at: number;
  readonly size: number;
}

export interface Mutation {
  readonly name: string;
  readonly bytes: Buffer;
}

// GGUF v3: sizes of the scalar types by their number; 8 is a string, 9 an array.
const scalarSizes: Record<number, number> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };

/** Every field of a sound file, in its order. Of arrays only the first elements are told. */
export function fieldsOf(file: Buffer): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const take = (kind: Field["kind"], size: number): number => {
    fields.push({ kind, at, size });
    at += size;
    return at - size;
  };
  const u32 = (kind: Field["kind"]): number => file.readUInt32LE(take(kind, 4));
  const u64 = (kind: Field["kind"]): number => Number(file.readBigUInt64LE(take(kind, 8)));
  const scalar = (type: number): void => {
    if (type === 8) take("string", u64("string length"));
    else take("number", scalarSizes[type] ?? 0);
  };
  take("magic", 4);
  u32("version");
  const tensors = u64("tensor count");
  const keys = u64("key count");
  for (let key = 0; key < keys; key++) {
    take("key", u64("key length"));
    const type = u32("value type");
    if (type !== 9) {
      scalar(type);
      continue;
    }
    const elements = u32("array type");
    const length = u64("array length");
    const before = fields.length;
    for (let element = 0; element < length; element++) {
      scalar(elements);
      if (element > 2) fields.length = Math.min(fields.length, before + 8);
    }
  }
  for (let tensor = 0; tensor < tensors; tensor++) {
    take("name", u64("name length"));
    const dimensions = u32("dimension count");
    for (let dimension = 0; dimension < dimensions; dimension++) u64("dimension");
    u32("tensor type");
    u64("tensor offset");
  }
  take("padding", (32 - (at % 32)) % 32);
  take("data", file.length - at);
  return fields.filter((field) => field.size > 0);
}

/** Values that a field of so many bytes is set to: nothing, a little, too much, far too much, negative. */
function hostileValues(size: number, now: bigint): bigint[] {
  const limit = 1n << BigInt(size * 8);
  const values = [0n, 1n, now - 1n, now + 1n, now * 2n, 0x7fffffffn, limit / 2n, limit - 1n];
  if (size === 8) values.push(1n << 40n, 1n << 62n);
  return [...new Set(values.filter((value) => value >= 0n && value < limit && value !== now))];
}

/** Each kind of field set to hostile values, at a few places; flipped bits in each section; the file cut at each kind. */
export function mutations(file: Buffer, perKind: number): Mutation[] {
  const fields = fieldsOf(file);
  const kinds = [...new Set(fields.map((field) => field.kind))];
  return kinds.flatMap((kind) => {
    const all = fields.filter((field) => field.kind === kind);
    const places = Array.from({ length: Math.min(perKind, all.length) }, (_, index) =>
      Math.floor((index * all.length) / Math.min(perKind, all.length)),
    );
    return places.flatMap((place, index) => mutate(file, all[place] as Field, index));
  });
}

function mutate(file: Buffer, field: Field, place: number): Mutation[] {
  const { kind, at, size } = field;
  const name = `${kind} at ${at}`;
  const cut = { name: `cut within the ${name}`, bytes: file.subarray(0, at + Math.floor(size / 2)) };
  const flips = [0, Math.floor(size / 2), size - 1].map((byte) => ({
    name: `a flipped bit in the ${name} + ${byte}`,
    bytes: changed(file, at + byte, (old) => old ^ (1 << ((place * 3 + byte) % 8))),
  }));
  if (kind === "data" || kind === "string" || kind === "key" || kind === "name" || kind === "padding") {
    return [cut, ...flips.slice(0, kind === "data" ? 3 : 2)];
  }
  const now = readLittleEndian(file, at, size);
  const values = hostileValues(size, now);
  // All values at the first place, one at each other.
  const chosen = place === 0 ? values : values.slice(place % values.length, (place % values.length) + 1);
  const set = chosen.map((value) => ({ name: `${value} as the ${name}`, bytes: written(file, field, value) }));
  return place === 0 ? [cut, ...flips.slice(0, 1), ...set] : set;
}

function changed(file: Buffer, at: number, change: (old: number) => number): Buffer {
  const bytes = Buffer.from(file);
  bytes[at] = change(bytes[at] ?? 0);
  return bytes;
}

function written(file: Buffer, { at, size }: Field, value: bigint): Buffer {
  const bytes = Buffer.from(file);
  for (let byte = 0; byte < size; byte++) bytes[at + byte] = Number((value >> BigInt(byte * 8)) & 0xffn);
  return bytes;
}

function readLittleEndian(file: Buffer, at: number, size: number): bigint {
  let value = 0n;
  for (let byte = size - 1; byte >= 0; byte--) value = (value << 8n) | BigInt(file[at + byte] ?? 0);
  return value;
}
