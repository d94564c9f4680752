import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { convertCheckpoint } from "../src/convert.js";
import { asFileError, WeightStoreError } from "../src/errors.js";
import { requireSpace } from "../src/files.js";
import { lock } from "../src/lock.js";
import { readManifest } from "../src/manifest.js";
import { verifyFlashImage } from "../src/verify.js";
import { convertInChild } from "./helpers/child.js";
import { TINY, tinyConfig, writeCheckpoint, type TinyModel } from "./helpers/checkpoint.js";
import { contents, expectCode, workDirectory } from "./helpers/workdir.js";

const dir = workDirectory();
const model: TinyModel = { ...TINY, hiddenSize: 96, intermediateSize: 256, layers: 6 };
const checkpointDir = join(dir, "checkpoint");
let reference: Record<string, string>;
let serial = 0;

/** An output directory alone in its parent. */
function freshOutput(): { parent: string; outputDir: string } {
  const parent = join(dir, `out-${serial++}`);
  mkdirSync(parent);
  return { parent, outputDir: join(parent, "image") };
}

beforeAll(async () => {
  writeCheckpoint(checkpointDir, model, { shards: 2 });
  const { outputDir } = freshOutput();
  await convertCheckpoint({ checkpointDir, outputDir });
  reference = contents(outputDir);
});

describe("a conversion killed", () => {
  it.each([0.1, 0.3, 0.52, 0.7, 0.9, 0.999, 1])(
    "at %f of its bytes leaves no image, and the next one writes the same bytes",
    async (killAt) => {
      const { parent, outputDir } = freshOutput();
      expect(convertInChild({ checkpointDir, outputDir, killAt }).signal).toBe("SIGKILL");
      expect(existsSync(outputDir)).toBe(false);
      await convertCheckpoint({ checkpointDir, outputDir });
      expect(contents(outputDir)).toEqual(reference);
      expect(readdirSync(parent)).toEqual(["image"]);
    },
  );

  it("again and again gets on from kill to kill", () => {
    const { parent, outputDir } = freshOutput();
    for (let killAt = 0.1; killAt < 1; killAt += 0.15) {
      expect(convertInChild({ checkpointDir, outputDir, killAt }).signal).toBe("SIGKILL");
      expect(existsSync(outputDir)).toBe(false);
    }
    expect(convertInChild({ checkpointDir, outputDir })).toMatchObject({ signal: null });
    expect(contents(outputDir)).toEqual(reference);
    expect(readdirSync(parent)).toEqual(["image"]);
  });

  it("goes on instead of starting again: what was finished is not written twice", async () => {
    const { outputDir } = freshOutput();
    convertInChild({ checkpointDir, outputDir, killAt: 0.9 });
    const journal = readFileSync(join(`${outputDir}.partial`, "journal.jsonl"), "utf8");
    expect(journal).toContain("bundles/layers.0.attn_in");
    // A mark in a finished bundle is still there afterwards, and verification finds it.
    const manifestOf = join(dir, "out-0", "image");
    const { offsetBytes } = (await readManifest(manifestOf)).flash.bundles[0];
    const flash = openSync(join(`${outputDir}.partial`, "flash.safetensors"), "r+");
    writeSync(flash, "mark", offsetBytes);
    await convertCheckpoint({ checkpointDir, outputDir });
    await expectCode(verifyFlashImage(outputDir), "CORRUPT_IMAGE", "layers.0.attn_in");
  });

  it("starts again when the checkpoint or the options are others", async () => {
    for (const change of ["options", "source"] as const) {
      const { outputDir } = freshOutput();
      const other = join(dir, `checkpoint-${serial}`);
      writeCheckpoint(other, model);
      convertInChild({ checkpointDir: other, outputDir, killAt: 0.9 });
      if (change === "source") {
        writeFileSync(join(other, "config.json"), JSON.stringify({ ...tinyConfig(model), x: 1 }));
      }
      await convertCheckpoint({
        checkpointDir: other,
        outputDir,
        bundled: change === "source",
      });
      await verifyFlashImage(outputDir);
      expect((await readManifest(outputDir)).bundled).toBe(change === "source");
    }
  });

  it("with a journal that was cut or spoiled", async () => {
    for (const spoil of [
      (text: string) => text.slice(0, -20),
      (text: string) => text.slice(0, 30),
      () => "",
      () => "\u0000\u0000\n{}\n",
      (text: string) => `${text}{"item":3}\n`,
    ]) {
      const { outputDir } = freshOutput();
      convertInChild({ checkpointDir, outputDir, killAt: 0.9 });
      const journal = join(`${outputDir}.partial`, "journal.jsonl");
      writeFileSync(journal, spoil(readFileSync(journal, "utf8")));
      await convertCheckpoint({ checkpointDir, outputDir });
      expect(contents(outputDir)).toEqual(reference);
    }
  });
});

describe("a conversion that cannot write", () => {
  it("fails with a typed error and leaves nothing", () => {
    const { parent, outputDir } = freshOutput();
    const outcome = convertInChild({ checkpointDir, outputDir }, "ulimit -f 100");
    expect(outcome).toMatchObject({ code: "IO_ERROR", errno: "EFBIG" });
    expect(readdirSync(parent)).toEqual([]);
  });

  it("is told before it begins when the disk is too small", async () => {
    await expectCode(requireSpace(dir, 2 ** 60), "NO_SPACE", "MiB");
    await requireSpace(dir, 1);
  });

  it("reports a full disk as such", () => {
    const error = asFileError(Object.assign(new Error("x"), { code: "ENOSPC" }), "write", "/some");
    expect(error).toBeInstanceOf(WeightStoreError);
    expect(error).toMatchObject({ code: "NO_SPACE", errno: "ENOSPC", path: "/some" });
  });

  it("into a directory below a file", async () => {
    const file = join(dir, "file");
    writeFileSync(file, "");
    const conversion = convertCheckpoint({ checkpointDir, outputDir: join(file, "image") });
    await expectCode(conversion, "IO_ERROR", file);
  });
});

describe("the lock", () => {
  it("of a living process holds, of this one too", async () => {
    const path = join(dir, "a.lock");
    const release = await lock(path);
    await expectCode(lock(path), "BUSY", path);
    await release();
    expect(existsSync(path)).toBe(false);
    await (
      await lock(path)
    )();
  });

  it.each([
    ["a process that is gone", { pid: 2 ** 22 + 1, startedAt: "1" }],
    ["an earlier process of the same number", { pid: process.ppid, startedAt: "1" }],
    ["this process's number before a restart", { pid: process.pid, startedAt: "1" }],
  ])("of %s is taken over", async (_, owner) => {
    const path = join(dir, "b.lock");
    writeFileSync(path, JSON.stringify(owner));
    await (
      await lock(path)
    )();
    writeFileSync(path, "");
    await (
      await lock(path)
    )();
  });

  it("of a process that started when the lock says so is respected", async () => {
    const path = join(dir, "c.lock");
    const stat = readFileSync(`/proc/${process.ppid}/stat`, "utf8");
    const startedAt = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    writeFileSync(path, JSON.stringify({ pid: process.ppid, startedAt }));
    await expectCode(lock(path), "BUSY", String(process.ppid));
  });
});
