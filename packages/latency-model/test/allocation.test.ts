import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const packageDir = fileURLToPath(new URL("..", import.meta.url));

const ESTIMATES = 4000;
/** Two numbers that the engine boxes to pass them between functions: no array and no object. */
const BOXED_NUMBERS_BYTES = 2 * 16;
/** What the measurement itself allocates. */
const SLACK_BYTES = 60_000;

/** Prints the growth of the heap and of array memory over many estimates of alternating plans, the best of 5 rounds. */
const PROGRAM = `
import { BatchModel, LatencyTable, planFromRows, simulatedDevice } from "@neuron-chunking/latency-model";
const model = new BatchModel(new LatencyTable(simulatedDevice("orin-agx")), {
  lanes: 12, fixedNs: 1, sumWeight: 1, laneWeight: 0.3, perRequestNs: 4, stragglerNs: 10,
  unloaded: { sizesBytes: [4096, 65536], latencyNs: [80000, 110000] },
  readThroughBytes: 2000, maxRequestBytes: 100000,
});
const plans = [700, 3, 90].map((rows) => planFromRows(Array.from({ length: rows }, (_, i) => 3 * i)));
let heapBytes = Infinity;
let arrayBytes = Infinity;
let sum = 0;
for (let round = 0; round < 5; round++) {
  globalThis.gc();
  const before = process.memoryUsage();
  for (let i = 0; i < ${ESTIMATES}; i++) sum += model.estimatePlanNs(plans[i % 3], 1792);
  const after = process.memoryUsage();
  heapBytes = Math.min(heapBytes, after.heapUsed - before.heapUsed);
  arrayBytes = Math.min(arrayBytes, after.arrayBuffers - before.arrayBuffers);
}
console.log(JSON.stringify({ heapBytes, arrayBytes, sum }));
`;

test("P5: a batch model allocates no array or object once warm", async () => {
  // A young generation that holds any leak, so that no collection can hide it.
  const flags = ["--expose-gc", "--max-semi-space-size=64", "--min-semi-space-size=64"];
  const args = [...flags, "--input-type=module", "--eval", PROGRAM];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: packageDir });
  const growth = JSON.parse(stdout) as { heapBytes: number; arrayBytes: number; sum: number };
  console.log(`heap +${growth.heapBytes} B over ${ESTIMATES} estimates`);
  expect(growth.sum).toBeGreaterThan(0);
  expect(growth.arrayBytes).toBeLessThanOrEqual(0);
  expect(growth.heapBytes).toBeLessThan(ESTIMATES * BOXED_NUMBERS_BYTES + SLACK_BYTES);
});
