import {
  ftruncateSync,
  mkdirSync,
  openSync,
  closeSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { binding } from "../src/binding.js";
import { checkExtents } from "../src/profiler/extents.js";
import { affordableBytes, ensureProbeFile, probePath } from "../src/profiler/probe-file.js";
import { noise, rejection, temporaryDirectory } from "./support.js";

const MIB = 1 << 20;
const directory = temporaryDirectory();
const temporaryMemory = temporaryDirectory("/dev/shm");

/** What the extents of a file say, after `fill` put something into it. */
async function extentsOf(name: string, folder: string, fill: (fd: number) => unknown) {
  const path = join(folder, name);
  const fd = openSync(path, "w");
  await fill(fd);
  closeSync(fd);
  const file = await open(path, "r");
  try {
    return await checkExtents(file);
  } finally {
    await file.close();
  }
}

describe("P1: the probe file", () => {
  it("P1: is incompressible, without holes or unwritten extents, kept, and repaired when damaged", async () => {
    const { path, extents } = await ensureProbeFile({ directory, fileBytes: 16 * MIB });
    expect(extents.missingBytes).toBe(0);
    const { size, mtimeMs } = statSync(path);
    expect(size).toBe(16 * MIB);
    const bytes = readFileSync(path);
    const counts = new Array<number>(256).fill(0);
    for (const byte of bytes.subarray(0, MIB)) counts[byte]++;
    const entropyBits = counts.reduce((sum, n) => sum - (n / MIB) * Math.log2(n / MIB), 0);
    expect(entropyBits).toBeGreaterThan(7.99);

    expect((await ensureProbeFile({ directory, fileBytes: 16 * MIB })).path).toBe(path);
    expect(statSync(path).mtimeMs).toBe(mtimeMs);

    const fd = openSync(path, "r+");
    writeSync(fd, Buffer.alloc(16 * MIB));
    await ensureProbeFile({ directory, fileBytes: 16 * MIB });
    expect(readFileSync(path).equals(bytes)).toBe(true);

    // The right bytes at every spot that is looked at, but a hole beside it.
    const hole = openSync(path, "r+");
    ftruncateSync(hole, 8 * MIB);
    ftruncateSync(hole, 16 * MIB);
    closeSync(hole);
    closeSync(fd);
    expect((await ensureProbeFile({ directory, fileBytes: 16 * MIB })).extents.missingBytes).toBe(
      0,
    );
    expect(readFileSync(path).equals(bytes)).toBe(true);
  });

  it("P1: FIEMAP sees holes and unwritten extents; without it st_blocks sees holes, and says so", async ({
    skip,
  }) => {
    const written = await extentsOf("written", directory, (fd) => writeSync(fd, noise(2 * MIB)));
    skip(written.method !== "FIEMAP", `this file system has no FIEMAP (${written.errno ?? ""})`);
    expect(written).toMatchObject({ missingBytes: 0, encodedBytes: 0 });
    expect(written.extents).toBeGreaterThanOrEqual(1);
    const sparse = await extentsOf("sparse", directory, (fd) => {
      writeSync(fd, noise(MIB));
      ftruncateSync(fd, 3 * MIB);
    });
    expect(sparse).toMatchObject({ method: "FIEMAP", missingBytes: 2 * MIB });
    const reserved = await extentsOf("reserved", directory, (fd) =>
      binding.preallocate(fd, 4 * MIB),
    );
    expect(reserved).toMatchObject({ method: "FIEMAP", missingBytes: 4 * MIB });
    const inMemory = await extentsOf("memory", temporaryMemory, (fd) => {
      writeSync(fd, noise(MIB));
      ftruncateSync(fd, 2 * MIB);
    });
    expect(inMemory).toMatchObject({ method: "st_blocks", missingBytes: MIB, errno: "ENOTSUP" });
  });

  it("too little space is a clear error, before anything is written", async () => {
    const error = await rejection(ensureProbeFile({ directory, fileBytes: 2 ** 50 }));
    expect(error).toMatchObject({ code: "NO_SPACE", path: directory, errno: "ENOSPC" });
    expect(error.message).toContain(directory);
    expect(readdirSync(directory).some((name) => name.endsWith(".tmp"))).toBe(false);
  });

  it("P1: takes as much as the disk allows when no size is named", async () => {
    const { bavail, bsize } = statfsSync(directory);
    const most = await affordableBytes(directory, 2 ** 60, 64 * MIB);
    expect(most % (64 * MIB)).toBe(0);
    expect(most).toBeGreaterThanOrEqual(64 * MIB);
    expect(most).toBeLessThanOrEqual(Math.max(64 * MIB, bavail * bsize + 1024 * MIB));
    expect(await affordableBytes(directory, 64 * MIB, 64 * MIB)).toBe(64 * MIB);
    // One that is there already needs no room.
    expect(await affordableBytes(directory, 16 * MIB, 2 ** 60)).toBe(16 * MIB);
  });

  it("a directory that cannot be written to is a typed error that says what to do", async () => {
    const error = await rejection(ensureProbeFile({ directory: "/sys", fileBytes: MIB }));
    expect(error).toMatchObject({ code: "OPEN_FAILED", path: "/sys" });
    expect(error.errno).toBeDefined();
    expect(error.message).toContain("may be written to");
    const inFile = await rejection(ensureProbeFile({ directory: "/proc/version", fileBytes: MIB }));
    expect(inFile).toMatchObject({ code: "OPEN_FAILED" });
  });

  it("an aborted writer leaves nothing behind", async () => {
    const controller = new AbortController();
    const fresh = join(directory, "aborted");
    mkdirSync(fresh);
    // What a process that was killed left a day ago goes too; another one may still be writing the second.
    const dayAgo = new Date(Date.now() - 24 * 3600 * 1000);
    for (const name of ["flash-probe-old.tmp", "flash-probe-new.tmp"]) {
      writeFileSync(join(fresh, name), "x");
    }
    utimesSync(join(fresh, "flash-probe-old.tmp"), dayAgo, dayAgo);
    const writing = ensureProbeFile({
      directory: fresh,
      fileBytes: 64 * MIB,
      signal: controller.signal,
      onFraction: () => {
        controller.abort();
      },
    });
    await expect(writing).rejects.toMatchObject({ name: "AbortError" });
    expect(readdirSync(fresh)).toEqual(["flash-probe-new.tmp"]);
    expect(probePath(fresh, 64 * MIB)).toContain("64MiB");
  });
});
