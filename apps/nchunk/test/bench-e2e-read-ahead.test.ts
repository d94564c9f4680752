/** What the kernel reads ahead: found, changed for a while, and put back whatever happens. */
import { execFile } from "node:child_process";
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { build } from "tsup";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ReadAhead } from "../src/bench/e2e/read-ahead";
import { majorMinor } from "../src/doctor/block-device";

const run = promisify(execFile);
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-read-ahead-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("ReadAhead", () => {
  /** A /sys that has this device's setting where the kernel has it, in KiB. */
  async function sysWith(name: string, setting: string): Promise<{ sys: string; file: string }> {
    const sys = path.join(folder, name);
    const bdi = path.join(sys, "class/bdi", majorMinor((await stat(folder)).dev));
    await mkdir(bdi, { recursive: true });
    const file = path.join(bdi, "read_ahead_kb");
    await writeFile(file, setting);
    return { sys, file };
  }

  it("is read in bytes, and changed for as long as a task runs", async () => {
    const { sys, file } = await sysWith("sys-task", "8192\n");
    const readAhead = await ReadAhead.of(folder, sys);
    expect(await readAhead.bytes()).toBe(8 * 2 ** 20);
    await readAhead.requireSettable();
    const listeners = process.listenerCount("SIGTERM");
    const during = await readAhead.during(131_072, async () => [
      await readFile(file, "utf8"),
      await readAhead.bytes(),
    ]);
    expect(during).toEqual(["128", 131_072]);
    expect(await readFile(file, "utf8")).toBe("8192");
    expect(await readAhead.during(undefined, () => readAhead.bytes())).toBe(8 * 2 ** 20);
    expect(process.listenerCount("SIGTERM")).toBe(listeners);
  });

  it("is found for a partition, which has its disk's", async () => {
    const sys = path.join(folder, "sys-partition");
    const disk = path.join(sys, "devices/disk");
    await mkdir(path.join(disk, "part"), { recursive: true });
    await mkdir(path.join(disk, "queue"));
    await mkdir(path.join(sys, "dev/block"), { recursive: true });
    await writeFile(path.join(disk, "queue/read_ahead_kb"), "64\n");
    const { dev } = await stat(folder);
    await symlink(path.join(disk, "part"), path.join(sys, "dev/block", majorMinor(dev)));
    expect(await (await ReadAhead.of(folder, sys)).bytes()).toBe(65_536);
  });

  it("is put back when the task fails", async () => {
    const { sys, file } = await sysWith("sys-failure", "256\n");
    const readAhead = await ReadAhead.of(folder, sys);
    const failing = readAhead.during(131_072, () => Promise.reject(new Error("no model")));
    await expect(failing).rejects.toThrow("no model");
    expect(await readFile(file, "utf8")).toBe("256");
  });

  it("is put back when the process ends by a signal or by itself", async () => {
    const entry = path.resolve(import.meta.dirname, "../src/bench/e2e/read-ahead.ts");
    const options = { dts: false, clean: false, sourcemap: false, silent: true, config: false };
    await build({ ...options, entry: [entry], outDir: folder, format: "esm", target: "node20" });
    const built = (await readdir(folder)).find((name) => /^read-ahead\.m?js$/.test(name));
    const module = path.join(folder, "read-ahead.mjs");
    if (built !== "read-ahead.mjs") await rename(path.join(folder, built!), module);
    for (const [how, code] of Object.entries({ SIGTERM: 143, SIGHUP: 129, exit: 3 })) {
      const { sys, file } = await sysWith(`sys-${how}`, "512\n");
      const end = how === "exit" ? "process.exit(3)" : `process.kill(process.pid, "${how}")`;
      const program =
        `const { ReadAhead } = await import(${JSON.stringify(module)});` +
        `const found = await ReadAhead.of(${JSON.stringify(folder)}, ${JSON.stringify(sys)});` +
        "await found.during(131072, async () => {" +
        `console.log(await found.bytes()); ${end}; await new Promise((f) => setTimeout(f, 60000)); });`;
      const ended = run(process.execPath, ["--input-type=module", "-e", program]);
      await expect(ended, how).rejects.toMatchObject({ code, stdout: "131072\n" });
      expect(await readFile(file, "utf8")).toBe("512");
    }
  });

  it("says why it cannot be changed, and what helps", async () => {
    const sys = path.join(folder, "sys-none");
    await mkdir(sys);
    const readAhead = await ReadAhead.of(folder, sys);
    await expect(readAhead.requireSettable()).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(
        /as root where \/sys is writable.*--peer-read-ahead/,
      ) as string,
    });
    expect(await readAhead.during(131_072, () => Promise.resolve(1))).toBe(1);
  });
});
