import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import { temporaryDirectory, writeNoise } from "./support.js";

// Inside the package, so that the examples find it by name as a user's program would.
const directory = temporaryDirectory();
const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");

function examples(language: string): string[] {
  return [...readme.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, "g"))].map(
    (match) => match[1],
  );
}

/** What the compiler has to say of a file, under the repository's own rules. */
function typeErrors(file: string): string[] {
  const base = fileURLToPath(new URL("../../../tsconfig.base.json", import.meta.url));
  const { config } = ts.readConfigFile(base, (path) => ts.sys.readFile(path)) as {
    config: { compilerOptions: object };
  };
  const { options } = ts.convertCompilerOptionsFromJson(
    { ...config.compilerOptions, types: ["node"], noEmit: true },
    fileURLToPath(new URL("..", import.meta.url)),
  );
  return ts
    .getPreEmitDiagnostics(ts.createProgram([file], options))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
}

describe("the README", () => {
  it("has an example that runs", () => {
    const [example, ...others] = examples("js");
    expect(others).toEqual([]);
    writeFileSync(join(directory, "example.mjs"), example);
    const output = execFileSync(process.execPath, ["example.mjs"], { cwd: directory }).toString();
    expect(output).toMatch(/^reading by (io_uring|pool)-(direct|buffered)\n/);
    expect(output).toContain("358400 bytes wanted");
    expect(output).toMatch(/[1-9]\d* requests so far/);
  });

  it("has an example of tuning that the compiler accepts, and would not in any form", () => {
    const [example, ...others] = examples("ts");
    expect(others).toEqual([]);
    const right = join(directory, "tuning.ts");
    writeFileSync(right, example);
    expect(typeErrors(right)).toEqual([]);
    const wrong = join(directory, "wrong.ts");
    writeFileSync(wrong, example.replace("tuning:", "tunning:"));
    expect(typeErrors(wrong).join()).toContain("tunning");
  });

  it("lists the defaults of tuning as they are", async () => {
    const path = join(directory, "data.bin");
    writeNoise(path, 4096);
    const reader = await FlashReader.open(path);
    const table = readme.slice(readme.indexOf("`tuning` is how"));
    const shown = (value: string | number) => {
      if (typeof value === "string") return `\`"${value}"\``;
      return value < 1 << 20 ? String(value) : `${value / (1 << 20)} MiB`;
    };
    for (const [field, value] of Object.entries(reader.tuning) as [string, string | number][]) {
      const row = new RegExp(`\\| \`${field}\` +\\| (.+?) +\\|`).exec(table);
      expect(row?.[1], field).toBe(shown(value));
    }
    await reader.close();
  });
});
