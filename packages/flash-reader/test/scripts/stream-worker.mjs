// Streams for ever, with sinks that release and with sinks that wait for a release that never comes.
import { parentPort, workerData } from "node:worker_threads";
import { addon, prepare } from "./slices.mjs";

const { path, options } = workerData;
const eager = await prepare(path, options);
const waiting = await prepare(path, options);
void waiting.reader.streamSlices(waiting.requests, addon.collectingSink(false));
for (let round = 0; ; round++) {
  const streaming = eager.reader.streamSlices(eager.requests, addon.collectingSink(true));
  if (round === 2) parentPort.postMessage("streaming");
  await streaming;
}
