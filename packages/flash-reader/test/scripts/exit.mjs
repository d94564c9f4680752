// Leaves while batches are being read.
import { FlashReader } from "@neuron-chunking/flash-reader";

const reader = await FlashReader.open(process.argv[2]);
for (let i = 0; i < 20; i++) {
  void reader.read({
    offsetsBytes: Float64Array.of(0, 5_000_000),
    lengthsBytes: Float64Array.of(4e6, 3e6),
    count: 2,
  });
}
console.log("leaving");
process.exit(0);
