import { mkdir, mkdtemp, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { afterAll, beforeAll, expect, it } from "vitest";
import { profileOf } from "../src/device-profile";

/** On the repository's own disk; the probe file in it is kept for the next run. */
const PROBED = fileURLToPath(
  new URL("../../../node_modules/.cache/nchunk-test/probe", import.meta.url),
);
const DAY_MS = 24 * 3600 * 1000;

let cache: string;
const before = process.env["NCHUNK_CACHE_DIR"];
beforeAll(async () => {
  cache = await mkdtemp(path.join(os.tmpdir(), "nchunk-profiles-"));
  process.env["NCHUNK_CACHE_DIR"] = cache;
});
afterAll(async () => {
  if (before === undefined) delete process.env["NCHUNK_CACHE_DIR"];
  else process.env["NCHUNK_CACHE_DIR"] = before;
  await rm(cache, { recursive: true, force: true });
});

async function age(file: string): Promise<number> {
  return Date.now() - (await stat(file)).mtimeMs;
}

async function change(file: string, edit: (profile: DeviceProfile) => object): Promise<void> {
  const profile = JSON.parse(await readFile(file, "utf8")) as DeviceProfile;
  await writeFile(file, JSON.stringify({ ...profile, ...edit(profile) }));
  const then = new Date(Date.now() - 2 * DAY_MS);
  await utimes(file, then, then);
}

it("P4: a profile is kept under its key, checked once a day, and measured again when it is off", async () => {
  await mkdir(PROBED, { recursive: true });
  const { profile, file, fromCache } = await profileOf(PROBED);
  if (file === undefined) throw new Error("a measured profile has a file");
  expect(fromCache).toBe(false);
  expect(path.basename(file)).toBe(`device-${profile.key?.slice(0, 16)}.json`);

  expect(await profileOf(PROBED)).toEqual({ profile, file, fromCache: true });

  // So noisy that a spot check can find nothing wrong with it: it counts as checked today.
  const noisy = [1, 1, 1, 1e15, 1e15, 1e15];
  await change(file, ({ samples = [] }) => ({
    samples: samples.map((sample) => ({ ...sample, latencyNs: [...sample.latencyNs, ...noisy] })),
  }));
  expect(await age(file)).toBeGreaterThan(DAY_MS);
  expect(await profileOf(PROBED)).toMatchObject({ file, fromCache: true });
  expect(await age(file)).toBeLessThan(DAY_MS);

  // As if the disk had been a thousand times faster when it was measured.
  await change(file, ({ table, tailNsPerByte }) => ({
    table: { ...table, latencyNs: table.latencyNs.map((latency) => latency / 1000) },
    tailNsPerByte: tailNsPerByte / 1000,
    samples: [],
  }));
  const again = await profileOf(PROBED);
  expect(again).toMatchObject({ file, fromCache: false });
  expect(again.profile.key).toBe(profile.key);
}, 60_000);
