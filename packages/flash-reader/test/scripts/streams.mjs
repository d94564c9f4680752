// Workers are terminated in the middle of streams, then the process leaves in the middle of others.
import { Worker } from "node:worker_threads";
import { addon, prepare } from "./slices.mjs";
import { options, path } from "./support.mjs";

for (let i = 0; i < 4; i++) {
  const worker = new Worker(new URL("stream-worker.mjs", import.meta.url), {
    workerData: { path, options },
  });
  await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
  await worker.terminate();
}
console.log("terminated");
const streams = [await prepare(path, options), await prepare(path, options)];
streams.forEach(({ reader, requests }, i) => {
  void reader.streamSlices(requests, addon.collectingSink(i === 0));
});
console.log("leaving");
process.exit(0);
