// What the programs that stream share: eight slices of pieces spread over the first 7 MiB, two at a time.
import { createRequire } from "node:module";
import { FlashReader, SliceRequests } from "@neuron-chunking/flash-reader";

/** The raw addon: its sink for tests is no part of the package. */
export const addon = createRequire(import.meta.url)("@neuron-chunking/flash-io-addon");

export async function prepare(path, options) {
  const reader = await FlashReader.open(path, options);
  const landings = reader.allocateParts(2, 1 << 20);
  const requests = new SliceRequests();
  const slices = {
    starts: Uint32Array.from({ length: 80 }, (_, p) => 10 * p),
    lengths: new Uint32Array(80).fill(6),
    ends: Uint32Array.from({ length: 8 }, (_, s) => 10 * (s + 1)),
    count: 8,
  };
  reader.prepareSlices(slices, { baseOffsetBytes: 77, rowBytes: 4000 }, landings, requests);
  return { reader, requests };
}
