import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { modelPath, picturePath } from "./support/goldens.js";

const PACKAGE = join(import.meta.dirname, "..");

it("the first example of the README runs as it is written", async () => {
  const readme = readFileSync(join(PACKAGE, "README.md"), "utf8");
  const [, example] = /```js\n([\s\S]*?)```/.exec(readme)!;
  const root = await mkdtemp(join(tmpdir(), "nchunk-readme-"));
  try {
    const code = example
      .replace('"llava-onevision"', JSON.stringify(modelPath("llava-tied-f32")))
      .replace('".cache/flash-images"', JSON.stringify(join(root, "images")))
      .replace('"picture.png"', JSON.stringify(picturePath("square-40.png")));
    const arguments_ = ["--input-type=module", "--eval", code];
    const { stdout } = await promisify(execFile)(process.execPath, arguments_, { cwd: PACKAGE });
    expect(stdout).toMatch(
      /\n(exact|lossy) \(lagrange\), [\d.]+ tokens\/s,\n\d+ bytes in \d+ chunks, \d+ ms/,
    );
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}, 60_000);
