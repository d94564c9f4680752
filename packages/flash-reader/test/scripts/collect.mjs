// Readers that were never closed end their threads when they are collected.
import { readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { FlashReader } from "@neuron-chunking/flash-reader";

const threads = () => readdirSync("/proc/self/task").length;
const before = threads();
for (let i = 0; i < 10; i++) {
  const reader = await FlashReader.open(process.argv[2], { threads: 4 });
  await reader.read({
    offsetsBytes: Float64Array.of(0),
    lengthsBytes: Float64Array.of(100),
    count: 1,
  });
}
for (let i = 0; i < 200 && threads() >= before + 20; i++) {
  globalThis.gc();
  await sleep(10);
}
console.log(threads() < before + 20 ? "collected" : `${threads()} threads, ${before} before`);
