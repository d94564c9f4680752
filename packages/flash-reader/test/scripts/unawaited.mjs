// A read under way is the only thing that keeps the process alive.
import { FlashReader } from "@neuron-chunking/flash-reader";

const reader = await FlashReader.open(process.argv[2]);
void reader
  .read({ offsetsBytes: Float64Array.of(0), lengthsBytes: Float64Array.of(4e6), count: 1 })
  .then(() => console.log("settled"));
