import fc from "fast-check";
import { LatencyTable, planFromMask, simulatedDevice } from "@neuron-chunking/latency-model";
import type { ChunkPlan, DeviceProfile } from "@neuron-chunking/latency-model";
import type { BundleInfo } from "@neuron-chunking/weight-store";

/** Read times of any shape that never fall: steps, flat parts, bends. */
export function tableOf(steps: readonly number[], name = "any"): LatencyTable {
  let ns = 0;
  const latencyNs = steps.map((step) => (ns += step));
  const sizesBytes = steps.map((_, i) => 256 * (i + 1));
  const saturationBytes = sizesBytes[sizesBytes.length - 1];
  const profile: DeviceProfile = {
    ...simulatedDevice("nvme-gen4"),
    name,
    table: { sizesBytes, latencyNs },
    saturationBytes,
    tailNsPerByte: ns / saturationBytes,
  };
  return new LatencyTable(profile);
}

export const anyTable = fc
  .array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 1000 })), {
    minLength: 2,
    maxLength: 20,
  })
  .map((steps) => tableOf([100, ...steps]));
/** Runs of selected and unselected rows, of one row or many, so that plans are anything from dust to whole matrices. */
export const anyMask = fc
  .tuple(fc.boolean(), fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 24 }))
  .map(([first, runs]) =>
    runs.flatMap((run, i) => new Array<boolean>(run).fill(first === (i % 2 === 0))),
  );
/** Two masks of one number of rows. */
export const twoMasks = fc.tuple(anyMask, anyMask).map(([a, b]) => {
  const rows = Math.max(a.length, b.length);
  return [a, b].map((mask) => Array.from({ length: rows }, (_, row) => mask[row] ?? false));
});
export const anyRowBytes = fc.constantFrom(16, 100, 256, 1024, 5000);

export function matrix(name: string, rows: number, rowBytes = 256, kind = "mlp_in"): BundleInfo {
  return { name, rows, rowBytes, kind, layer: 0 } as BundleInfo;
}

export const rowsOf = (plan: ChunkPlan): number[] =>
  Array.from({ length: plan.chunkCount }, (_, c) =>
    Array.from({ length: plan.lengths[c] }, (_row, i) => plan.starts[c] + i),
  ).flat();
export const chunksOf = (plan: ChunkPlan) => ({
  starts: [...plan.starts.subarray(0, plan.chunkCount)],
  lengths: [...plan.lengths.subarray(0, plan.chunkCount)],
});
export const NONE = planFromMask([]);
