// Starts workers with a streamed product and terminates each in the middle. Arguments: path, rows, columns, backend, rounds.
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";

const [path, rows, columns, backend, rounds] = process.argv.slice(2);
const script = new URL("streaming-worker.mjs", import.meta.url);
const codes = new Set();
for (let round = 0; round < Number(rounds); round++) {
  const worker = new Worker(script, {
    workerData: { path, rows: Number(rows), columns: Number(columns), backend },
  });
  await new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  await sleep(Math.random() * 20);
  codes.add(await worker.terminate());
}
console.log(JSON.stringify([...codes]));
