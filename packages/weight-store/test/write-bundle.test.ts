import { writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { createHash } from "node:crypto";
import { join } from "node:path";
import fc from "fast-check";
import { expect, it } from "vitest";
import type { BundlePlan } from "../src/image-plan.js";
import { inversePermutation } from "../src/permutation.js";
import { Workspace, writeBundle } from "../src/write-bundle.js";
import { makeFinite, safetensorsBytes, tensorOf } from "./helpers/checkpoint.js";
import { shuffled } from "./helpers/expected.js";
import { naiveRow, sizes, valuesOf, type Format } from "./helpers/naive-quantiser.js";
import { workDirectory } from "./helpers/workdir.js";

const dir = workDirectory();

const scenario = fc.record({
  rows: fc.oneof(
    fc.integer({ min: 1, max: 70 }),
    fc.integer({ min: 1, max: 50 }).map((half) => 2 * half),
  ),
  // Even sizes take a faster way, and are what real models have.
  columns: fc.array(
    fc.oneof(
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 1, max: 40 }).map((half) => 2 * half),
    ),
    { minLength: 1, maxLength: 3 },
  ),
  dtype: fc.constantFrom("f32" as const, "bf16" as const),
  panelBytes: fc.integer({ min: 400, max: 8000 }),
  blockBytes: fc.integer({ min: 100, max: 3000 }),
  rowSeed: fc.option(fc.nat(1000), { nil: undefined }),
  columnSeed: fc.option(fc.nat(1000), { nil: undefined }),
  quantised: fc.option(
    fc.record({
      dtype: fc.constantFrom("int8" as const, "int4" as const),
      groupSize: fc.constantFrom(32 as const, 64 as const),
    }),
    { nil: undefined },
  ),
});

function naiveRows(bytes: Buffer, columns: number, dtype: string, format: Format): Buffer {
  const values = valuesOf(bytes, dtype);
  const rows = values.length / columns;
  return Buffer.concat(
    Array.from({ length: rows }, (_, row) =>
      naiveRow(values.slice(row * columns, (row + 1) * columns), format),
    ),
  );
}

// The converter's memory bound is 160 MiB; here it is a few rows, so that every path through panels is taken.
it("is right for any shape, however small the memory", async () => {
  const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
  console.info(`panels: FUZZ_SEED=${seed}`);
  await fc.assert(
    fc.asyncProperty(scenario, async (options) => {
      const { rows, dtype, panelBytes, blockBytes, rowSeed, columnSeed, quantised } = options;
      const elementBytes = dtype === "f32" ? 4 : 2;
      const path = join(dir, "source.safetensors");
      const tensors = options.columns.map((columns, part) =>
        tensorOf(`part${part}`, dtype === "f32" ? "F32" : "BF16", [columns, rows]),
      );
      if (quantised !== undefined) tensors.forEach(makeFinite);
      const bytes = safetensorsBytes(Object.fromEntries(tensors.map((t, i) => [`p${i}`, t])));
      writeFileSync(path, bytes);
      let offsetBytes = 8 + Number(bytes.readBigUInt64LE());
      let columnOffset = 0;
      const columnOrders = options.columns.map((columns) =>
        columnSeed === undefined ? undefined : shuffled(columns, columnSeed),
      );
      const parts = options.columns.map((columns, part) => {
        const lengthBytes = columns * rows * elementBytes;
        const source = {
          ...{ name: `p${part}`, sourceName: `p${part}`, dtype, shape: [columns, rows] },
          ...{ path, offsetBytes, lengthBytes },
        };
        const order = columnOrders[part];
        const plan = {
          ...{ name: `p${part}`, columnOffset, columns, source },
          ...(order === undefined ? {} : { columnOrder: inversePermutation(order) }),
        };
        offsetBytes += lengthBytes;
        columnOffset += columns;
        return plan;
      });
      const rowOrder = rowSeed === undefined ? undefined : shuffled(rows, rowSeed);
      const bundle: BundlePlan = {
        ...{ name: "b", kind: "mlp_in", layer: 0, rows, columns: columnOffset, dtype, parts },
        rowBytes: quantised ? sizes(quantised, columnOffset).rowBytes : columnOffset * elementBytes,
        folded: false,
        ...(quantised === undefined ? {} : { quantised }),
        ...(rowOrder === undefined ? {} : { rowOrder }),
      };
      const sourceRowBytes = columnOffset * elementBytes;
      const plain = Buffer.alloc(rows * sourceRowBytes);
      for (const [part, { columns, columnOffset: first }] of parts.entries()) {
        for (let row = 0; row < rows; row++) {
          for (let column = 0; column < columns; column++) {
            const output = columnOrders[part]?.[column] ?? column;
            const input = rowOrder?.[row] ?? row;
            const from = (output * rows + input) * elementBytes;
            const element = tensors[part].bytes.subarray(from, from + elementBytes);
            plain.set(element, row * sourceRowBytes + (first + column) * elementBytes);
          }
        }
      }
      const expected = quantised
        ? naiveRows(plain, columnOffset, dtype === "f32" ? "F32" : "BF16", quantised)
        : plain;
      const output = await open(join(dir, "out"), "w+");
      const source = await open(path, "r");
      try {
        let counted = 0;
        const workspace = new Workspace((count) => (counted += count), panelBytes, blockBytes);
        // Memory left over from a bundle of another, odd size.
        workspace.panelOf(20_002);
        workspace.blocksOf(20_002);
        const { sha256: hash } = await writeBundle(
          output,
          24,
          bundle,
          () => Promise.resolve(source),
          workspace,
        );
        const written = Buffer.alloc(expected.length);
        await output.read(written, 0, written.length, 24);
        expect(written.equals(expected)).toBe(true);
        expect(counted).toBe(expected.length);
        expect(hash).toBe(createHash("sha256").update(expected).digest("hex"));
      } finally {
        await output.close();
        await source.close();
      }
    }),
    { numRuns: 120, seed },
  );
});
