/**
 * A worker may end at any moment of a streamed product: threads of two addons are then at its memory, and no call into
 * JavaScript succeeds any more. In a process of its own, so that an abort is a failure with a name.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";

const ROWS = 512;
const COLUMNS = 600;
/** A missing guard aborted after some tens of these. */
const ROUNDS = 100;
const SCRIPT = fileURLToPath(new URL("support/terminate-workers.mjs", import.meta.url));

const dir = mkdtempSync(join(tmpdir(), "nchunk-worker-"));
const path = join(dir, "rows.bin");
writeFileSync(path, Buffer.alloc(4 * ROWS * COLUMNS, 1));
afterAll(() => {
  rmSync(dir, { recursive: true });
});

describe.each(["io_uring", "pool"])("a worker with a streamed product, %s", (backend) => {
  it("can be terminated at any moment", async () => {
    const args = [SCRIPT, path, ROWS, COLUMNS, backend, ROUNDS].map(String);
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 110_000 });
    expect(JSON.parse(stdout)).toEqual([1]);
  }, 120_000);
});
