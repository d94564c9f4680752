// An open, idle reader: the process must end by itself.
import { FlashReader } from "@neuron-chunking/flash-reader";
import { options, path, spread } from "./support.mjs";

const reader = await FlashReader.open(path, options);
const result = await reader.read(spread(1, 10));
console.log(`read ${result.view(0).length} bytes`);
