// A read under way is the only thing that keeps the process alive.
import { FlashReader } from "@neuron-chunking/flash-reader";
import { options, path, spread } from "./support.mjs";

const reader = await FlashReader.open(path, options);
void reader.read(spread(1, 4e6)).then(() => console.log("settled"));
