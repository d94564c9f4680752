import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const packageDir = fileURLToPath(new URL("..", import.meta.url));
const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");

/** Every `js` block with the `text` block after it: the program and what it prints. */
const examples = Array.from(
  readme.matchAll(/```js\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```/g),
  ([, program, output], index) => ({ name: `example ${index + 1}`, program, output }),
);

test("every program in the README shows its output", () => {
  expect(examples.length).toBeGreaterThan(0);
  expect(examples.length).toBe(readme.match(/```js\n/g)?.length);
});

// Run by Node.js itself against the built package, as a reader would.
test.each(examples)("README $name prints what it says", async ({ program, output }) => {
  const args = ["--input-type=module", "--eval", program];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: packageDir });
  expect(stdout).toBe(output);
});
