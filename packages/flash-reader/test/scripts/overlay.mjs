// Reads a file every way that the options allow; then writes to it while a reader has it open.
import { appendFileSync, readFileSync } from "node:fs";
import { FlashReader } from "@neuron-chunking/flash-reader";
import { isRight, path, spread } from "./support.mjs";

const file = readFileSync(path);
const ranges = spread(50, 5000);
const outcomes = [];
for (const backend of ["auto", "io_uring", "pool"]) {
  for (const directIo of ["required", "optional", "disabled"]) {
    try {
      const reader = await FlashReader.open(path, { backend, directIo });
      const right = isRight(await reader.read(ranges), ranges, file);
      outcomes.push({ backend, directIo, right, tier: reader.backend.tier });
      await reader.close();
    } catch ({ code, errno }) {
      outcomes.push({ backend, directIo, code, errno });
    }
  }
}
const reader = await FlashReader.open(path);
appendFileSync(path, "more");
const change = await reader.read(ranges).then(
  () => "unnoticed",
  ({ code }) => code,
);
console.log(JSON.stringify({ outcomes, change }));
