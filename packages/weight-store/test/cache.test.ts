import {
  existsSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { ensureFlashImage, isUpToDate } from "../src/cache.js";
import { convertCheckpoint } from "../src/convert.js";
import { verifyFlashImage } from "../src/verify.js";
import { safetensorsBytes, TINY, tinyTensors, writeCheckpoint } from "./helpers/checkpoint.js";
import { shuffled } from "./helpers/expected.js";
import { expectCode, workDirectory } from "./helpers/workdir.js";

const dir = workDirectory();
let checkpointDir: string;
let cacheDir: string;
let serial = 0;

beforeEach(() => {
  checkpointDir = join(dir, `checkpoint-${serial}`);
  cacheDir = join(dir, `cache-${serial++}`, "deep");
  writeCheckpoint(checkpointDir, TINY);
});

describe("the cache", () => {
  it("converts once", async () => {
    const first = await ensureFlashImage({ checkpointDir, cacheDir });
    expect(first.converted).toBe(true);
    const second = await ensureFlashImage({ checkpointDir, cacheDir });
    expect(second).toEqual({ ...first, converted: false });
    const link = join(dir, `link-${serial}`);
    symlinkSync(checkpointDir, link);
    expect(await ensureFlashImage({ checkpointDir: link, cacheDir })).toEqual(second);
  });

  it("keeps an image for each set of options", async () => {
    const dirs = new Set<string>();
    for (const options of [
      {},
      { bundled: false },
      { permutations: { "layers.0.mlp_out": shuffled(40) } },
      { permutations: { "layers.0.mlp_out": shuffled(40, 9) } },
    ]) {
      dirs.add((await ensureFlashImage({ checkpointDir, cacheDir, ...options })).dir);
    }
    expect(dirs.size).toBe(4);
    const again = await ensureFlashImage({ checkpointDir, cacheDir, bundled: true });
    expect(again.converted).toBe(false);
  });

  it("is used by two callers at once, one of whom converts", async () => {
    const both = await Promise.all([
      ensureFlashImage({ checkpointDir, cacheDir }),
      ensureFlashImage({ checkpointDir, cacheDir }),
    ]);
    expect(both.map(({ converted }) => converted).sort()).toEqual([false, true]);
    await verifyFlashImage(both[0].dir);
  });

  it("says what is wrong with a checkpoint", async () => {
    await expectCode(ensureFlashImage({ checkpointDir: join(dir, "none"), cacheDir }), "NOT_FOUND");
    writeFileSync(join(checkpointDir, "config.json"), "{}");
    await expectCode(ensureFlashImage({ checkpointDir, cacheDir }), "INVALID_CONFIG");
  });
});

describe("an image is up to date", () => {
  const weights = () => join(checkpointDir, "model.safetensors");
  const ensure = () => ensureFlashImage({ checkpointDir, cacheDir });

  it("when files were only touched: their bytes are compared", async () => {
    const { dir: imageDir } = await ensure();
    utimesSync(weights(), new Date(0), new Date(0));
    expect(await isUpToDate(imageDir, checkpointDir)).toBe(true);
    const before = readFileSync(join(imageDir, "manifest.json"), "utf8");
    const { converted, manifest } = await ensure();
    expect(converted).toBe(false);
    // The new time is noted, so that the next start need not read the weights.
    expect(manifest.source.files.find(({ name }) => name === "model.safetensors")?.mtimeMs).toBe(0);
    const after = readFileSync(join(imageDir, "manifest.json"), "utf8");
    expect(JSON.parse(after)).toEqual(manifest);
    expect(after).not.toBe(before);
    await verifyFlashImage(imageDir);
  });

  it("not when weights, of the same size, have other bytes", async () => {
    const { dir: imageDir } = await ensure();
    const tensors = tinyTensors(TINY);
    tensors["model.norm.weight"].bytes[0] ^= 1;
    const sizeBefore = statSync(weights()).size;
    writeFileSync(weights(), safetensorsBytes(tensors));
    utimesSync(weights(), new Date(1), new Date(1));
    expect(statSync(weights()).size).toBe(sizeBefore);
    expect(await isUpToDate(imageDir, checkpointDir)).toBe(false);
    expect((await ensure()).converted).toBe(true);
    expect(await isUpToDate(imageDir, checkpointDir)).toBe(true);
    await verifyFlashImage(imageDir);
  });

  it("not when a file was added, changed or removed", async () => {
    const { dir: imageDir } = await ensure();
    writeFileSync(join(checkpointDir, "generation_config.json"), "{}");
    expect(await isUpToDate(imageDir, checkpointDir)).toBe(false);
    await ensure();
    expect(readFileSync(join(imageDir, "generation_config.json"), "utf8")).toBe("{}");
    writeFileSync(join(checkpointDir, "generation_config.json"), "{ }");
    expect((await ensure()).converted).toBe(true);
    renameSync(join(checkpointDir, "generation_config.json"), join(dir, "away"));
    expect((await ensure()).converted).toBe(true);
    expect(existsSync(join(imageDir, "generation_config.json"))).toBe(false);
    writeFileSync(join(checkpointDir, "notes.txt"), "of no concern");
    expect((await ensure()).converted).toBe(false);
  });

  it("not when it is damaged, of other options, or absent", async () => {
    const { dir: imageDir } = await ensure();
    expect(await isUpToDate(imageDir, checkpointDir, { bundled: false })).toBe(false);
    expect(await isUpToDate(join(dir, "absent"), checkpointDir)).toBe(false);
    truncateSync(join(imageDir, "flash.safetensors"), 100);
    expect(await isUpToDate(imageDir, checkpointDir)).toBe(false);
    expect((await ensure()).converted).toBe(true);
    writeFileSync(join(imageDir, "manifest.json"), "{");
    expect((await ensure()).converted).toBe(true);
    await verifyFlashImage(imageDir);
  });

  it("wherever it was written", async () => {
    const outputDir = join(dir, `image-${serial}`);
    await convertCheckpoint({ checkpointDir, outputDir, bundled: false });
    expect(await isUpToDate(outputDir, checkpointDir, { bundled: false })).toBe(true);
    expect(await isUpToDate(outputDir, checkpointDir)).toBe(false);
  });
});
