// Readers that were never closed end their threads and give back descriptors when they are collected.
import { FlashReader } from "@neuron-chunking/flash-reader";
import { held, heldAtLast, options, path, spread } from "./support.mjs";

const before = held();
async function use() {
  for (let i = 0; i < 10; i++) {
    const reader = await FlashReader.open(path, options);
    await reader.read(spread(20, 100));
  }
}
await use();
const during = held();
const after = await heldAtLast(before, globalThis.gc);
console.log(JSON.stringify({ before, during, after }));
