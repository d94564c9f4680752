import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { POLICY_NAMES } from "../src/index.js";

const packageDir = fileURLToPath(new URL("..", import.meta.url));

const SELECTIONS = 4000;
/** Rounds of which the best counts: optimised code arrives when the machine has time for it. */
const ROUNDS = 12;
/** Numbers that the engine boxes to pass them between functions: no array and no object. */
const BOXED_NUMBERS = { default: 2, lagrange: 30 };
const BOXED_NUMBER_BYTES = 16;
/** What the measurement itself allocates. */
const SLACK_BYTES = 60_000;

/** Prints the growth of the heap and of array memory over many selections of three alternating shapes. */
const PROGRAM = `
import { createSelector } from "@neuron-chunking/chunk-selector";
import { LatencyTable, simulatedDevice } from "@neuron-chunking/latency-model";
const table = new LatencyTable(simulatedDevice("orin-agx"));
const requests = [[96, 1792], [64, 512], [200, 9728]].map(([rows, rowBytes]) => ({
  importance: Float32Array.from({ length: rows }, (_, row) => Math.abs(Math.sin(row * row))),
  rows, rowBytes, budgetRows: rows >> 1, threshold: 0.5, table,
}));
const selector = createSelector(process.argv[1], { maxRows: 200 });
let heapBytes = Infinity;
let arrayBytes = Infinity;
for (let round = 0; round < ${ROUNDS}; round++) {
  globalThis.gc();
  const before = process.memoryUsage();
  for (let i = 0; i < ${SELECTIONS}; i++) selector.select(requests[i % 3]);
  const after = process.memoryUsage();
  heapBytes = Math.min(heapBytes, after.heapUsed - before.heapUsed);
  arrayBytes = Math.min(arrayBytes, after.arrayBuffers - before.arrayBuffers);
}
console.log(JSON.stringify({ heapBytes, arrayBytes }));
`;

test.each(POLICY_NAMES)(
  "%s allocates no array or object after warm-up",
  async (policy) => {
    // A young generation that holds any leak, so that no collection can hide it.
    const flags = ["--expose-gc", "--max-semi-space-size=64", "--min-semi-space-size=64"];
    const args = [...flags, "--input-type=module", "--eval", PROGRAM, policy];
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: packageDir });
    const growth = JSON.parse(stdout) as { heapBytes: number; arrayBytes: number };
    console.log(`${policy}: heap +${growth.heapBytes} B over ${SELECTIONS} selections`);
    expect(growth.arrayBytes).toBeLessThanOrEqual(0);
    const boxedNumbers = policy === "lagrange" ? BOXED_NUMBERS.lagrange : BOXED_NUMBERS.default;
    const mostBytes = SELECTIONS * boxedNumbers * BOXED_NUMBER_BYTES + SLACK_BYTES;
    expect(growth.heapBytes).toBeLessThan(mostBytes);
  },
  60_000,
);
