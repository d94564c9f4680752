// Thousands of batches on one reader, and readers opened and closed: nothing may grow.
import { readFileSync } from "node:fs";
import { setImmediate } from "node:timers";
import { FlashReader } from "@neuron-chunking/flash-reader";
import { held, isRight, options, path, spread } from "./support.mjs";

const file = readFileSync(path);
const ranges = spread(8, 2000);
const reader = await FlashReader.open(path, options);
// Several at once, so that a busy machine is waited for less often.
const landings = Array.from({ length: 8 }, () => reader.allocate(reader.landingBytes(ranges)));
const { signal } = new globalThis.AbortController();
let wrong = 0;

async function work(rounds) {
  for (let i = 0; i < rounds; i++) {
    await Promise.all(
      landings.map(async (into) => {
        const result = await reader.read(ranges, { into, signal });
        if (!isRight(result, ranges, file)) wrong++;
      }),
    );
    if (i % 20 === 0) await (await FlashReader.open(path, options)).close();
  }
}

async function measure() {
  for (let i = 0; i < 4; i++) {
    globalThis.gc();
    // What was collected is finalised in later turns.
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external } = process.memoryUsage();
  return { heapUsed, external, ...held(), active: process.getActiveResourcesInfo() };
}

await work(50);
const before = await measure();
await work(300);
const after = await measure();
console.log(JSON.stringify({ wrong, before, after }));
