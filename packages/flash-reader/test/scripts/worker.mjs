// Reads and checks `rounds` times (or for ever), with several batches under way at any time.
import { readFileSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { FlashReader } from "@neuron-chunking/flash-reader";
import { isRight, spread } from "./support.mjs";

const { path, options, rounds } = workerData;
const file = readFileSync(path);
const reader = await FlashReader.open(path, options);
const ranges = spread(100, 9000);
for (let round = 0; round < rounds; round++) {
  const reads = [reader.read(ranges), reader.read(ranges), reader.read(ranges)];
  if (round === 1) parentPort.postMessage("reading");
  for (const result of await Promise.all(reads)) {
    if (!isRight(result, ranges, file)) throw new Error("wrong bytes");
  }
}
await reader.close();
