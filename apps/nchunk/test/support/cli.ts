import { spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const ROOT = path.resolve(HERE, "../../../..");
export const CLI = path.join(ROOT, "apps/nchunk/dist/cli.js");
const FIXTURES = path.join(ROOT, "packages/vlm-executor/test/fixtures");

/** On the repository's own disk, where direct I/O can be expected, and kept for the next run. */
export const CACHE_DIR = path.join(ROOT, "node_modules/.cache/nchunk-test");

export const fixtureModel = (name: string): string => path.join(FIXTURES, "models", name);
export const fixtureImage = (name: string): string => path.join(FIXTURES, "images", name);
export const fixtureGolden = (name: string): string =>
  path.join(FIXTURES, "goldens", `${name}.json`);

export interface CliResult {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the built command line as a user would. */
export function nchunk(args: string[], env: Record<string, string> = {}): Promise<CliResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [CLI, ...args], {
      env: { ...process.env, NCHUNK_CACHE_DIR: CACHE_DIR, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, stdout, stderr }));
  });
}

/** Runs a verb under `--json` and parses its stdout, which must be one JSON document. */
export async function nchunkJson(args: string[]): Promise<Record<string, unknown>> {
  const { status, stdout, stderr } = await nchunk([...args, "--json"]);
  if (status !== 0) throw new Error(`nchunk ${args.join(" ")} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout) as Record<string, unknown>;
}
