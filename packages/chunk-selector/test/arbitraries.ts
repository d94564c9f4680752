import { LatencyTable, simulatedDevice, SIMULATED_DEVICES } from "@neuron-chunking/latency-model";
import fc from "fast-check";
import type { ChunkHyperparameters } from "../src/index.js";

/** One importance of a kind; a whole array is of one kind, so that ties and extremes meet each other. */
const KINDS: fc.Arbitrary<number>[] = [
  fc.float({ min: 0, max: 10, noNaN: true }),
  fc.integer({ min: 0, max: 3 }),
  fc.constant(0),
  fc.constant(1),
  fc.constantFrom(0, 1e-45, 1e-42, 1e-38),
  fc.constantFrom(0, 1e30, 3e38, 3.4028234663852886e38),
  fc.constantFrom(0, 1e-45, 1, 3.4028234663852886e38),
  fc.float({ min: 0, noNaN: true, noDefaultInfinity: true }),
  // Neighbouring floats: scores that differ in the last bits only.
  fc.integer({ min: 0, max: 3 }).map((ulps) => 1 + ulps * 2 ** -23),
];

/** `[rows]` importances: smooth, tied, constant, zero, tiny, huge or mixed. */
export function importances(minRows: number, maxRows: number): fc.Arbitrary<Float32Array> {
  return fc
    .constantFrom(...KINDS)
    .chain((kind) => fc.array(kind, { minLength: minRows, maxLength: maxRows }))
    .map((values) => Float32Array.from(values));
}

const randomTable = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 20_000 }), fc.integer({ min: 0, max: 10_000 })), {
    minLength: 1,
    maxLength: 8,
  })
  .map((steps) => {
    const sizesBytes: number[] = [];
    const latencyNs: number[] = [];
    for (const [sizeBytes, ns] of steps) {
      sizesBytes.push((sizesBytes.at(-1) ?? 0) + sizeBytes);
      latencyNs.push((latencyNs.at(-1) ?? 1) + ns);
    }
    return new LatencyTable({
      schemaVersion: 1,
      name: "random",
      origin: "modelled",
      source: "test",
      table: { sizesBytes, latencyNs },
      saturationBytes: sizesBytes[sizesBytes.length - 1],
      tailNsPerByte: 0.2,
    });
  });

/** A simulated device's table, or a random one (also with T constant, where long windows always win). */
export const tables: fc.Arbitrary<LatencyTable> = fc.oneof(
  fc.constantFrom(...SIMULATED_DEVICES).map((name) => new LatencyTable(simulatedDevice(name))),
  randomTable,
);

/** Hyperparameters from less than a row to more than the matrix, steps and jumps unrelated to the minimum. */
export const hyperparameters: fc.Arbitrary<ChunkHyperparameters> = fc
  .record({
    minKiB: fc.integer({ min: 1, max: 160 }),
    stepKiB: fc.integer({ min: 1, max: 160 }),
    extraKiB: fc.integer({ min: 0, max: 800 }),
    jumpKiB: fc.integer({ min: 1, max: 160 }),
  })
  .map(({ minKiB, stepKiB, extraKiB, jumpKiB }) => ({
    minKiB: minKiB / 4,
    stepKiB: stepKiB / 4,
    maxKiB: (minKiB + extraKiB) / 4,
    jumpKiB: jumpKiB / 4,
  }));

/** Row widths from a tenth of a small window to wider than any. */
export const rowWidths: fc.Arbitrary<number> = fc.oneof(
  fc.constantFrom(256, 512, 1792, 4096, 7168, 9728, 37_888),
  fc.integer({ min: 100, max: 50_000 }),
);
