// An open, idle reader: the process must end by itself.
import { FlashReader } from "@neuron-chunking/flash-reader";

const reader = await FlashReader.open(process.argv[2]);
const result = await reader.read({
  offsetsBytes: Float64Array.of(5),
  lengthsBytes: Float64Array.of(10),
  count: 1,
});
console.log(`read ${result.view(0).length} bytes`);
