import { parentPort, workerData } from "node:worker_threads";
import { FlashReader } from "@neuron-chunking/flash-reader";

const reader = await FlashReader.open(workerData.path, { threads: 3 });
const ranges = {
  offsetsBytes: Float64Array.from({ length: 100 }, (_, i) => i * 70_001),
  lengthsBytes: new Float64Array(100).fill(9000),
  count: 100,
};
for (let round = 0; round < workerData.rounds; round++) {
  const [result] = await Promise.all([reader.read(ranges), reader.read(ranges)]);
  if (round === 0) parentPort.postMessage(result.view(0).slice());
}
await reader.close();
