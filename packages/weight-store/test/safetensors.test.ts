import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WeightStoreError } from "../src/errors.js";
import { MAX_NAME_BYTES } from "../src/header-parser.js";
import { layOutFile, PAGE_BYTES } from "../src/safetensors-layout.js";
import { checkHeader, MAX_HEADER_BYTES, readSafetensorsHeader } from "../src/safetensors.js";
import { safetensorsBytes, tensorOf, withHeader } from "./helpers/checkpoint.js";
import { expectCode, workDirectory } from "./helpers/workdir.js";

const dir = workDirectory();
const path = join(dir, "file.safetensors");

function read(bytes: Uint8Array) {
  writeFileSync(path, bytes);
  return readSafetensorsHeader(path);
}

function readJson(json: string, dataBytes = 0) {
  return read(withHeader(json, Buffer.alloc(dataBytes)));
}

const entry = (begin: number, end: number, shape = `[${(end - begin) / 4}]`) =>
  `{"dtype":"F32","shape":${shape},"data_offsets":[${begin},${end}]}`;

describe("a valid header", () => {
  it("gives every tensor with its place in the file", async () => {
    const tensors = {
      a: tensorOf("a", "F32", [2, 3]),
      "b.weight": tensorOf("b", "BF16", [5]),
      empty: tensorOf("e", "F16", [0, 4]),
      scalar: tensorOf("s", "F32", []),
    };
    const bytes = safetensorsBytes(tensors);
    const header = await read(bytes);
    expect(header.metadata).toEqual(new Map([["format", "pt"]]));
    for (const [name, { dtype, shape, bytes: data }] of Object.entries(tensors)) {
      const found = header.tensors.get(name);
      expect(found).toMatchObject({ name, dtype, shape, lengthBytes: data.length });
      const offset = found?.offsetBytes ?? -1;
      expect(bytes.subarray(offset, offset + data.length)).toEqual(data);
    }
  });

  it("may have white space, escapes, any order of fields and of tensors", async () => {
    const header = await readJson(
      `{ "z\\u00e9" : {"shape": [1] , "data_offsets":[4, 8],"dtype":"F32"},\n"a":${entry(0, 4)} }   `,
      8,
    );
    expect([...header.tensors.keys()]).toEqual(["a", "zé"]);
  });

  it("may be empty", async () => {
    expect((await readJson("{}")).tensors.size).toBe(0);
  });
});

describe("a malformed file is refused", () => {
  it("that is empty or shorter than its length prefix", async () => {
    await expectCode(read(Buffer.alloc(0)), "TRUNCATED", path);
    await expectCode(read(Buffer.alloc(7)), "TRUNCATED");
  });

  it("that does not exist or is a directory", async () => {
    await expectCode(readSafetensorsHeader(join(dir, "absent")), "NOT_FOUND");
    await expectCode(readSafetensorsHeader(dir), "IO_ERROR");
  });

  it("whose header is longer than the file", async () => {
    const bytes = safetensorsBytes({ a: tensorOf("a", "F32", [2]) });
    await expectCode(read(bytes.subarray(0, 20)), "TRUNCATED");
  });

  it("whose header claims more than the format allows, before anything is allocated", async () => {
    for (const claim of [BigInt(MAX_HEADER_BYTES) + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      const bytes = Buffer.alloc(64);
      bytes.writeBigUInt64LE(claim);
      await expectCode(read(bytes), "HEADER_TOO_LARGE", claim.toString());
    }
  });

  it("whose data is cut short", async () => {
    const bytes = safetensorsBytes({ a: tensorOf("a", "F32", [100]) });
    writeFileSync(path, bytes);
    truncateSync(path, bytes.length - 1);
    await expectCode(readSafetensorsHeader(path), "TRUNCATED");
  });

  it.each([
    ["not JSON", "hello"],
    ["an array", "[]"],
    ["leading space", " {}"],
    ["nothing", ""],
    ["an unfinished object", '{"a":'],
    ["an unfinished string", '{"a'],
    ["a trailing comma", `{"a":${entry(0, 4)},}`],
    ["text after the end", "{}x"],
    ["two objects", "{}{}"],
    ["a control character in a name", '{"a\u0001":{}}'],
    ["a bad escape", `{"\\x":${entry(0, 4)}}`],
    ["a tensor that is a number", '{"a":1}'],
    ["a missing dtype", '{"a":{"shape":[1],"data_offsets":[0,4]}}'],
    ["a missing shape", '{"a":{"dtype":"F32","data_offsets":[0,4]}}'],
    ["one offset", '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}'],
    ["three offsets", '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,2,4]}}'],
    ["an unknown field", '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}'],
    ["a negative size", `{"a":${entry(0, 4, "[-1]")}}`],
    ["a fraction", `{"a":${entry(0, 4, "[1.0]")}}`],
    ["an exponent", `{"a":${entry(0, 4, "[1e0]")}}`],
    ["a leading zero", `{"a":${entry(0, 4, "[01]")}}`],
    ["a number beyond 2^53", `{"a":${entry(0, 4, "[9007199254740993]")}}`],
    ["nested shapes", `{"a":${entry(0, 4, "[[1]]")}}`],
    ["65 dimensions", `{"a":${entry(0, 4, `[${Array(65).fill(1).join(",")}]`)}}`],
    ["metadata that is not strings", '{"__metadata__":{"a":1}}'],
    ["a name longer than allowed", `{"${"n".repeat(MAX_NAME_BYTES + 1)}":${entry(0, 4)}}`],
    ["deep nesting", `{"a":${"[".repeat(100_000)}`],
  ])("with %s", async (_, json) => {
    await expectCode(readJson(json, 4), "INVALID_HEADER", path);
  });

  it("with bytes that are not UTF-8", async () => {
    await expectCode(read(withHeader(Buffer.from([0x7b, 0x22, 0xff, 0x22]))), "INVALID_HEADER");
  });

  it.each([
    ["two tensors of one name", `{"a":${entry(0, 4)},"a":${entry(4, 8)}}`],
    ["a name spelled two ways", `{"a":${entry(0, 4)},"\\u0061":${entry(4, 8)}}`],
    ["a field twice", '{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}'],
    ["two metadata objects", '{"__metadata__":{},"__metadata__":{}}'],
    ["a metadata key twice", '{"__metadata__":{"a":"","a":""}}'],
  ])("with %s", async (_, json) => {
    await expectCode(readJson(json, 8), "DUPLICATE_NAME");
  });

  it.each([
    ["an overlap", `{"a":${entry(0, 8)},"b":${entry(4, 12)}}`, 12],
    ["one range twice", `{"a":${entry(0, 8)},"b":${entry(0, 8)}}`, 8],
    ["a gap", `{"a":${entry(0, 4)},"b":${entry(8, 12)}}`, 12],
    ["a gap at the start", `{"a":${entry(4, 8)}}`, 8],
    ["bytes after the last tensor", `{"a":${entry(0, 4)}}`, 8],
    ["an end before the begin", '{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}', 8],
  ])("with %s", async (_, json, dataBytes) => {
    await expectCode(readJson(json, dataBytes), "INVALID_OFFSETS");
  });

  it("with a range outside the file", async () => {
    await expectCode(readJson(`{"a":${entry(0, 4096)}}`, 8), "TRUNCATED");
  });

  it("with bytes that do not fit dtype and shape, however the product wraps", async () => {
    await expectCode(readJson(`{"a":${entry(0, 8, "[1]")}}`, 8), "SHAPE_MISMATCH", "a");
    const wraps = "[4294967296,4294967296]";
    await expectCode(readJson(`{"a":${entry(0, 0, wraps)}}`), "SHAPE_MISMATCH");
  });

  it("with an unknown dtype", async () => {
    const json = '{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}';
    await expectCode(readJson(json, 4), "UNSUPPORTED_DTYPE", "F31");
  });
});

describe("the writer", () => {
  it("places tensors as asked and without holes, whatever their sizes", async () => {
    const spec = fc.record({
      dtype: fc.constantFrom("f32" as const, "bf16" as const, "f16" as const, "u32" as const),
      shape: fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 3 }),
      alignmentBytes: fc.constantFrom(4, 64, 512, PAGE_BYTES),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(spec, { maxLength: 12 }), async (specs) => {
        const named = specs.map((tensor, index) => ({ ...tensor, name: `t.${index}` }));
        const layout = layOutFile(named, { format: "test" });
        expect(layout.header.length % PAGE_BYTES).toBe(0);
        expect(layout.fileBytes % PAGE_BYTES).toBe(0);
        writeFileSync(path, layout.header);
        truncateSync(path, layout.fileBytes);
        const header = await readSafetensorsHeader(path);
        expect(header.dataOffsetBytes).toBe(layout.header.length);
        for (const { name, offsetBytes, lengthBytes, alignmentBytes } of layout.tensors) {
          expect(header.tensors.get(name)).toMatchObject({ offsetBytes, lengthBytes });
          expect(offsetBytes % alignmentBytes).toBe(0);
        }
        const others = [...header.tensors.keys()].filter((name) => !name.startsWith("__pad__."));
        expect(others).toEqual(named.map(({ name }) => name));
      }),
      { numRuns: 100 },
    );
  });
});

describe("a fuzzed header", () => {
  const bytes = safetensorsBytes({
    "model.layers.0.self_attn.q_proj.weight": tensorOf("q", "BF16", [8, 4]),
    "model.layers.0.self_attn.k_proj.weight": tensorOf("k", "BF16", [2, 4]),
    "model.norm.weight": tensorOf("n", "F32", [4]),
  });
  const headerBytes = Number(bytes.readBigUInt64LE());

  /** Either a header that is consistent with the file, or a typed error. */
  function check(spoiled: Buffer): void {
    try {
      const header = checkHeader(spoiled, bytes.length, "fuzz");
      let end = header.dataOffsetBytes;
      for (const { offsetBytes, lengthBytes } of header.tensors.values()) {
        expect(offsetBytes).toBe(end);
        end += lengthBytes;
      }
      expect(end).toBe(bytes.length);
    } catch (error) {
      if (!(error instanceof WeightStoreError)) throw error;
    }
  }

  it("loads or fails with the typed error: single bytes, exhaustively by position", () => {
    const original = bytes.subarray(8, 8 + headerBytes);
    for (let at = 0; at < headerBytes; at++) {
      for (const value of [0, 0x22, 0x2c, 0x30, 0x39, 0x5b, 0x5c, 0x7b, 0x7d, 0xff]) {
        const spoiled = Buffer.from(original);
        spoiled[at] = value;
        check(spoiled);
      }
    }
  });

  it("loads or fails with the typed error: several random edits", () => {
    const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
    console.info(`header fuzz: FUZZ_SEED=${seed}`);
    const edit = fc.record({
      at: fc.nat(headerBytes - 1),
      kind: fc.constantFrom("set", "flip", "remove", "repeat"),
      value: fc.integer({ min: 0, max: 255 }),
    });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), (edits) => {
        let spoiled = Buffer.from(bytes.subarray(8, 8 + headerBytes));
        for (const { at, kind, value } of edits) {
          if (kind === "remove") {
            spoiled = Buffer.concat([spoiled.subarray(0, at), spoiled.subarray(at + 1)]);
          } else if (kind === "repeat") {
            spoiled = Buffer.concat([
              spoiled.subarray(0, at),
              spoiled.subarray(Math.max(0, at - 30)),
            ]);
          } else if (at < spoiled.length) {
            spoiled[at] = kind === "set" ? value : spoiled[at] ^ (1 << (value % 8));
          }
        }
        check(spoiled);
      }),
      { numRuns: 3000, seed },
    );
  });

  it("with a spoiled length prefix allocates no more than the file has", async () => {
    const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
    console.info(`length fuzz: FUZZ_SEED=${seed}`);
    await fc.assert(
      fc.asyncProperty(fc.nat(7), fc.integer({ min: 0, max: 255 }), async (at, value) => {
        const spoiled = Buffer.from(bytes);
        spoiled[at] = value;
        if (spoiled.equals(bytes)) return;
        writeFileSync(path, spoiled);
        const error: unknown = await readSafetensorsHeader(path).catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(WeightStoreError);
      }),
      { numRuns: 100, seed },
    );
    expect(readFileSync(path).length).toBe(bytes.length);
  });
});
