// Worker threads side by side: half read to the end, half are terminated in the middle of batches.
import { Worker } from "node:worker_threads";
import { held, heldAtLast, options, path } from "./support.mjs";

const start = (name, rounds) =>
  new Worker(new URL(name, import.meta.url), { workerData: { path, options, rounds } });
const exitOf = (worker) =>
  new Promise((resolve, reject) => worker.once("exit", resolve).once("error", reject));

const before = held();
const codes = await Promise.all(
  Array.from({ length: 4 }, async (_, i) => {
    const isTerminated = i % 2 === 1;
    const worker = start("worker.mjs", isTerminated ? Infinity : 5);
    const exit = exitOf(worker);
    await Promise.race([new Promise((resolve) => worker.once("message", resolve)), exit]);
    if (isTerminated) await worker.terminate();
    return exit;
  }),
);
// Terminated while files are being opened.
for (let i = 0; i < 2; i++) {
  const worker = start("opener.mjs", 0);
  await new Promise((resolve) => worker.once("message", resolve));
  await worker.terminate();
}
console.log(JSON.stringify({ codes, before, after: await heldAtLast(before) }));
