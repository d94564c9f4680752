import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { TINY, writeCheckpoint } from "./helpers/checkpoint.js";
import { workDirectory } from "./helpers/workdir.js";

const dir = workDirectory();
const packageDir = fileURLToPath(new URL("..", import.meta.url));

it("the example of the README runs as it is printed", () => {
  const readme = readFileSync(join(packageDir, "README.md"), "utf8");
  const example = /```js\n(.*?)```/s.exec(readme)?.[1] ?? "";
  const checkpointDir = join(dir, "Qwen2-0.5B");
  writeCheckpoint(checkpointDir, { ...TINY, family: "qwen2" });
  const code = example
    .replace('"Qwen2-0.5B"', JSON.stringify(checkpointDir))
    .replace('".cache/flash-images"', JSON.stringify(join(dir, "cache")));
  const run = spawnSync(process.execPath, ["--input-type=module", "-e", code], {
    cwd: packageDir,
    encoding: "utf8",
  });
  expect(run.stderr).toContain("100 %");
  expect(run.stdout).toContain("converted to");
  expect(run.stdout).toContain("3 rows in the second chunk");
  expect(run.stdout).toContain("bf16 [ 24 ]");
  expect(run.status).toBe(0);
});
