import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const packageDir = fileURLToPath(new URL("..", import.meta.url));

// One round: that the benchmark still runs, not how fast it is.
test("the benchmark runs and reports every policy beside its baseline", async () => {
  const run = promisify(execFile);
  const { stdout } = await run(process.execPath, ["bench/select.mjs", "1"], { cwd: packageDir });
  expect(stdout).toMatch(/18944 rows x 7168 B/);
  for (const column of ["sort all", "topk", "threshold", "chunk", "lagrange"]) {
    expect(stdout).toContain(column);
  }
});
