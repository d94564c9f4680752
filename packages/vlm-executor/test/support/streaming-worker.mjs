// Multiplies rows as they land, again and again, until it is terminated. Data: { path, rows, columns, backend }.
import { parentPort, workerData } from "node:worker_threads";
import { FlashReader, SliceRequests } from "@neuron-chunking/flash-reader";
import kernels from "@neuron-chunking/kernels-addon";

const { path, rows, columns, backend } = workerData;
const SLICES = 16;
const TOKENS = 4;
const perSlice = rows / SLICES;
const rowBytes = 4 * columns;
// Slow enough that something is always on its way.
const reader = await FlashReader.openWithFaults(path, { backend }, { seed: 7, delay: 3000 });
const each = perSlice * rowBytes + 2 * reader.alignmentBytes;
// A short window: the product has to give slices back for the stream to go on.
const landings = reader.allocateParts(4, each);
const starts = Uint32Array.from({ length: SLICES }, (_, s) => s * perSlice);
const lengths = new Uint32Array(SLICES).fill(perSlice);
const slices = Uint32Array.from({ length: SLICES }, (_, s) => s);
const ends = slices.map((s) => s + 1);
const requests = new SliceRequests();
const arrivals = kernels.createArrivals();
const x = new Float32Array(TOKENS * rows).fill(1);
const y = new Float32Array(TOKENS * columns);
const landing = new Uint8Array(landings[0].bytes.buffer);
const outcome = new Float64Array(3);
parentPort.postMessage("ready");
for (;;) {
  const layout = { baseOffsetBytes: 0, rowBytes };
  reader.prepareSlices({ starts, lengths, ends, count: SLICES }, layout, landings, requests);
  const reading = reader.streamSlices(requests, arrivals);
  await kernels.streamedMatmul(
    ...[x, TOKENS, rows, null, 0, starts, lengths, slices, SLICES, landing],
    ...[requests.offsetsBytes, arrivals, null, null, landings.length, rowBytes, 0, columns],
    ...[y, false, null, outcome],
  );
  kernels.finishArrivals(arrivals);
  await reading;
}
