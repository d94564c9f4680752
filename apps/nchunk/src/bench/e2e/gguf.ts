/**
 * Head of a GGUF file, version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): magic, version, counts,
 * metadata, tensor descriptions. Little endian throughout.
 */

const VERSION = 3;
/** Tensor data starts at multiples of this, the format's default. */
export const GGUF_ALIGNMENT_BYTES = 32;

/** Numbers of the format's metadata value types. */
const VALUE_TYPE = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;
/** Numbers of `ggml_type`. */
const TENSOR_TYPE = { f32: 0, f16: 1 } as const;
const TENSOR_ELEMENT_BYTES = { f32: 4, f16: 2 } as const;

export type GgufValue =
  | { readonly type: "uint32" | "float32"; readonly value: number }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "int32s"; readonly value: readonly number[] };

export interface GgufTensor {
  readonly name: string;
  /** Rows first, as elsewhere; the file holds them fastest first. */
  readonly shape: readonly number[];
  readonly dtype: "f32" | "f16";
}

export interface GgufLayout {
  /** All bytes before the first tensor, padding included. */
  readonly head: Buffer;
  /** From the start of the file, bytes, one for each tensor. */
  readonly offsetsBytes: readonly number[];
  readonly fileBytes: number;
}

export function tensorBytes({ shape, dtype }: GgufTensor): number {
  return shape.reduce((product, n) => product * n, TENSOR_ELEMENT_BYTES[dtype]);
}

const align = (bytes: number): number =>
  Math.ceil(bytes / GGUF_ALIGNMENT_BYTES) * GGUF_ALIGNMENT_BYTES;

class Encoder {
  private readonly parts: Buffer[] = [];

  uint32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return this.push(bytes);
  }

  uint64(value: number): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return this.push(bytes);
  }

  float32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    return this.push(bytes);
  }

  /** Length in bytes, then UTF-8 without an end mark. */
  string(value: string): this {
    const bytes = Buffer.from(value);
    return this.uint64(bytes.length).push(bytes);
  }

  value(value: GgufValue): this {
    switch (value.type) {
      case "uint32":
        return this.uint32(VALUE_TYPE.uint32).uint32(value.value);
      case "float32":
        return this.uint32(VALUE_TYPE.float32).float32(value.value);
      case "string":
        return this.uint32(VALUE_TYPE.string).string(value.value);
      case "strings":
        this.array(VALUE_TYPE.string, value.value.length);
        for (const item of value.value) this.string(item);
        return this;
      case "bool":
        return this.uint32(VALUE_TYPE.bool).push(Buffer.of(value.value ? 1 : 0));
      case "int32s":
        this.array(VALUE_TYPE.int32, value.value.length);
        return this.push(Buffer.from(Int32Array.from(value.value).buffer));
    }
  }

  end(): Buffer {
    return Buffer.concat(this.parts);
  }

  private array(elementType: number, length: number): void {
    this.uint32(VALUE_TYPE.array).uint32(elementType).uint64(length);
  }

  push(bytes: Buffer): this {
    this.parts.push(bytes);
    return this;
  }
}

/** Lays out a file: its head, and where each tensor's bytes belong. */
export function layOutGguf(
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensor[],
): GgufLayout {
  const head = new Encoder().push(Buffer.from("GGUF")).uint32(VERSION);
  head.uint64(tensors.length).uint64(metadata.size);
  for (const [key, value] of metadata) head.string(key).value(value);
  const offsets: number[] = [];
  let dataBytes = 0;
  for (const tensor of tensors) {
    head.string(tensor.name).uint32(tensor.shape.length);
    for (const size of [...tensor.shape].reverse()) head.uint64(size);
    head.uint32(TENSOR_TYPE[tensor.dtype]).uint64(dataBytes);
    offsets.push(dataBytes);
    dataBytes += align(tensorBytes(tensor));
  }
  const written = head.end();
  const padded = Buffer.concat([written, Buffer.alloc(align(written.length) - written.length)]);
  return {
    head: padded,
    offsetsBytes: offsets.map((offset) => padded.length + offset),
    fileBytes: padded.length + dataBytes,
  };
}
