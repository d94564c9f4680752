/** A worker may end at any moment of a streamed product: threads of two addons are then at its memory. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { afterAll, describe, expect, it } from "vitest";

const ROWS = 512;
const COLUMNS = 600;
const ROUNDS = 12;
const SCRIPT = fileURLToPath(new URL("support/streaming-worker.mjs", import.meta.url));

const dir = mkdtempSync(join(tmpdir(), "nchunk-worker-"));
const path = join(dir, "rows.bin");
writeFileSync(path, Buffer.alloc(4 * ROWS * COLUMNS, 1));
afterAll(() => {
  rmSync(dir, { recursive: true });
});

describe.each(["io_uring", "pool"] as const)("a worker with a streamed product, %s", (backend) => {
  it("can be terminated at any moment", async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const workerData = { path, rows: ROWS, columns: COLUMNS, backend };
      const worker = new Worker(SCRIPT, { workerData });
      await new Promise((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      });
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
      expect(await worker.terminate()).toBe(1);
    }
  }, 60_000);
});
