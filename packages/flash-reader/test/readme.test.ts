import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { temporaryDirectory } from "./support.js";

// Inside the package, so that the example finds it by name as a user's program would.
const directory = temporaryDirectory();

it("the README's example runs", () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const examples = [...readme.matchAll(/```js\n([\s\S]*?)```/g)].map((match) => match[1]);
  expect(examples).toHaveLength(1);
  writeFileSync(join(directory, "example.mjs"), examples[0]);
  const output = execFileSync(process.execPath, ["example.mjs"], { cwd: directory }).toString();
  expect(output).toMatch(/^direct I\/O: (true|false)/);
  expect(output).toContain("358400 bytes wanted");
});
