import { parentPort, workerData } from "node:worker_threads";
import { FlashReader } from "@neuron-chunking/flash-reader";

for (let i = 0; ; i++) {
  const opened = Array.from({ length: 4 }, () =>
    FlashReader.open(workerData.path, workerData.options),
  );
  if (i === 1) parentPort.postMessage("opening");
  const readers = await Promise.all(opened);
  await Promise.all(readers.map((reader) => reader.close()));
}
