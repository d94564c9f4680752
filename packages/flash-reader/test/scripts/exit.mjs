// Leaves while batches are being read: by process.exit, or by an exception that nobody catches.
import { setImmediate } from "node:timers";
import { FlashReader } from "@neuron-chunking/flash-reader";
import { options, path, spread } from "./support.mjs";

const reader = await FlashReader.open(path, options);
for (let i = 0; i < 20; i++) void reader.read(spread(300, 9000));
console.log("leaving");
if (process.argv[4] === "throw") {
  setImmediate(() => {
    throw new Error("on purpose");
  });
} else {
  process.exit(0);
}
