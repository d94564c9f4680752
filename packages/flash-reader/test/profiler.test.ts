import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { BatchModel, LatencyTable, parseDeviceProfile } from "@neuron-chunking/latency-model";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { beforeAll, describe, expect, it } from "vitest";
import { deviceKey, FlashReader, profileDevice, spotCheckProfile } from "../src/index.js";
import type { ProfilePhase, ProfileProgress } from "../src/index.js";
import { disksBehind } from "../src/profiler/block-device.js";
import { deviceFacts } from "../src/profiler/device-facts.js";
import { keyOf } from "../src/profiler/device-key.js";
import { TINY_EFFORT } from "../src/profiler/effort.js";
import { findMount } from "../src/profiler/mount.js";
import { profileWithEffort } from "../src/profiler/profile-device.js";
import type { ProfileDeviceOptions } from "../src/profiler/profile-device.js";
import { compare } from "../src/profiler/spot-check.js";
import { rejection, temporaryDirectory } from "./support.js";

const MIB = 1 << 20;
const directory = temporaryDirectory();
const temporaryMemory = temporaryDirectory("/dev/shm");
const measureTiny = (options: Partial<ProfileDeviceOptions> = {}): Promise<DeviceProfile> =>
  profileWithEffort({ directory, ...options }, TINY_EFFORT);

const PHASES: ProfilePhase[] = [
  "probe-file",
  "warm-up",
  "queue",
  "request-size",
  "table",
  "gaps",
  "batches",
];

describe("profileDevice", () => {
  let profile: DeviceProfile;
  const progress: ProfileProgress[] = [];
  beforeAll(async () => {
    profile = await measureTiny({ onProgress: (step) => progress.push(step) });
  });

  it("measures a valid profile, every part of it", () => {
    expect(parseDeviceProfile(JSON.parse(JSON.stringify(profile)))).toEqual(profile);
    expect(profile).toMatchObject({ schemaVersion: 1, origin: "measured", probeVersion: 2 });
    expect(profile.key).toMatch(/^[0-9a-f]{64}$/);
    expect(profile.device).toMatchObject({ probeFileBytes: 64 * MIB });
    expect(String(profile.device?.["probeFileCheck"])).toMatch(/^(FIEMAP|st_blocks)/);
  });

  it("P3: both backends have a monotone table, and raw samples of every round beside it", () => {
    const rounds = profile.rounds?.length ?? 0;
    expect(rounds).toBeGreaterThanOrEqual(5);
    expect(rounds).toBeLessThanOrEqual(TINY_EFFORT.tableRounds + TINY_EFFORT.maxRepeatedRounds);
    const backends = profile.backends ?? [];
    for (const { table, samples } of [...backends, profile]) {
      const { sizesBytes, latencyNs } = table;
      expect(sizesBytes.some((size) => size % 512 !== 0)).toBe(true);
      for (let i = 1; i < sizesBytes.length; i++) {
        expect(latencyNs[i]).toBeGreaterThanOrEqual(latencyNs[i - 1]);
        const perByte = latencyNs[i] / sizesBytes[i];
        expect(perByte).toBeLessThanOrEqual((latencyNs[i - 1] / sizesBytes[i - 1]) * (1 + 1e-9));
      }
      expect(samples?.map((sample) => sample.sizeBytes)).toEqual(sizesBytes);
      for (const sample of samples ?? []) expect(sample.latencyNs).toHaveLength(rounds);
    }
    const chosen = backends.find(({ name }) => name === profile.reader?.backend);
    expect(chosen?.table).toEqual(profile.table);
    expect(new LatencyTable(profile).latencyNs(4096)).toBeGreaterThan(0);
    expect(profile.noise).toMatchObject({ rounds, sampleP50: expect.any(Number) as number });
    const { unloadedP50Ns = 0, unloadedP99Ns = 0, unloadedReads } = profile.noise ?? {};
    expect(unloadedP99Ns).toBeGreaterThanOrEqual(unloadedP50Ns);
    expect(unloadedReads).toBeGreaterThan(0);
  });

  it("R2: the tuning is what the sweeps say, and a reader accepts it", async () => {
    const tuning = profile.reader?.tuning;
    if (tuning === undefined) throw new Error("the profile has no tuning");
    expect(tuning.backend).toBe(profile.reader?.backend);
    expect(tuning.submitBatch).toBeLessThanOrEqual(tuning.queueDepth);
    expect(2 * tuning.maxRequestBytes).toBeLessThanOrEqual(tuning.maxBytesInFlight);
    expect(tuning.maxRequestBytes).toBeGreaterThanOrEqual(128 << 10);
    expect(tuning.readThroughBytes).toBeLessThanOrEqual(64 << 10);
    const chosenBy = { io_uring: tuning.queueDepth, pool: tuning.threads };
    for (const { backend, sizeBytes, depths, latencyNs } of profile.queue ?? []) {
      expect(depths[0]).toBe(1);
      if (sizeBytes !== 4096) continue;
      const enough = Math.min(...latencyNs) * 1.03;
      const smallest = depths[latencyNs.findIndex((latency) => latency <= enough)];
      expect(chosenBy[backend as keyof typeof chosenBy]).toBe(smallest);
    }
    const [file] = readdirSync(directory);
    const reader = await FlashReader.open(join(directory, file), { tuning });
    expect(reader.tuning).toEqual(tuning);
    await reader.close();
  });

  it("P5: has a batch model, and says how well it predicts masks that took no part in its fit", () => {
    const { batchModel, validation } = profile;
    if (batchModel === undefined || validation === undefined) throw new Error("not measured");
    const { readThroughBytes, maxRequestBytes } = profile.reader?.tuning ?? {};
    expect(batchModel).toMatchObject({ readThroughBytes, maxRequestBytes });
    expect(batchModel.unloaded.sizesBytes).toContain(4096);
    const model = new BatchModel(new LatencyTable(profile), batchModel);
    const one = { starts: Uint32Array.of(3), lengths: Uint32Array.of(2), chunkCount: 1 };
    expect(model.estimatePlanNs(one, 1792)).toBeGreaterThan(0);
    expect(validation.masks).toHaveLength(TINY_EFFORT.plans / 2);
    expect(new Set(validation.masks.map((mask) => mask.rowBytes)).size).toBe(4);
    let absolute = 0;
    for (const { measuredNs, batchNs } of validation.masks) {
      absolute += Math.abs(batchNs / measuredNs - 1) / validation.masks.length;
    }
    expect(validation.batch.mape).toBeCloseTo(absolute, 9);
  });

  it("reports progress over all phases, to the end", () => {
    const fractions = progress.map((step) => step.fraction);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(fractions.at(-1)).toBeCloseTo(1, 9);
    const seen = new Set(progress.map((step) => step.phase));
    // The file may be there already, and a table may say that no gap is worth reading.
    for (const phase of PHASES.filter((name) => name !== "probe-file" && name !== "gaps")) {
      expect(seen).toContain(phase);
    }
  });

  it("P4: its key can be had without measuring, and differs by what is asked for", async () => {
    expect(await deviceKey(directory)).toBe(profile.key);
    expect(await deviceKey(directory, { backend: "pool" })).not.toBe(profile.key);
    expect(await deviceKey(directory, { directIo: "disabled" })).not.toBe(profile.key);
    expect(await deviceKey(temporaryMemory)).not.toBe(profile.key);
  });

  it("R4: the pool alone is measured when it is asked for", async () => {
    const pool = await measureTiny({ backend: "pool" });
    expect(pool.reader).toMatchObject({ backend: "pool", tuning: { backend: "pool" } });
    expect(pool.backends?.map(({ name }) => name)).toEqual(["pool"]);
    expect(new Set(pool.queue?.map(({ backend }) => backend))).toEqual(new Set(["pool"]));
  });

  it("P4: a spot check accepts what it can believe, and says why it does not", async () => {
    // Expectations as measured a moment ago, but tolerant of a machine that is busy with other tests.
    const wide = (profile.samples ?? []).map((sample) => ({
      ...sample,
      latencyNs: [...sample.latencyNs, 1, 1, 1e12, 1e12],
    }));
    const good = await spotCheckProfile({ ...profile, samples: wide }, { directory });
    expect(good.sizes).toHaveLength(3);
    expect(good).toMatchObject({ valid: true });

    const latencyNs = profile.table.latencyNs.map((latency) => latency / 1000);
    const slow = { ...profile, table: { ...profile.table, latencyNs }, samples: [] };
    const bad = await spotCheckProfile(slow, { directory });
    expect(bad.valid).toBe(false);
    expect(bad.reason).toMatch(/reads of \d+ KiB take \d+ % more/);

    const other = await spotCheckProfile({ ...profile, key: "of another disk" }, { directory });
    expect(other).toMatchObject({ valid: false, sizes: [] });
    await expect(
      spotCheckProfile(profile, { directory, signal: AbortSignal.abort(new Error("enough")) }),
    ).rejects.toThrow("enough");
  });

  it("P4: 10 % off is too much, unless the profile's own rounds differ by more", () => {
    const table = { sizesBytes: [4096, 65_536], latencyNs: [1000, 4000] };
    const quiet = { ...profile, table, saturationBytes: 65_536, samples: [] };
    const [small, large] = compare(quiet, [4096, 65_536], [[1090], [4800]]);
    expect(small.deviation).toBeCloseTo(0.09, 9);
    expect(Math.abs(small.deviation)).toBeLessThan(small.tolerance);
    expect(large.deviation).toBeCloseTo(0.2, 9);
    expect(large.tolerance).toBe(0.1);
    // The check's own rounds are on both sides, or clearly on one.
    expect(compare(quiet, [4096], [[800, 900, 1200, 1500]])[0].deviation).toBe(0);
    expect(compare(quiet, [4096], [[1200, 1200, 1400, 5000]])[0].deviation).toBeCloseTo(0.2, 9);
    expect(compare(quiet, [4096], [[100, 700, 700, 700]])[0].deviation).toBeCloseTo(-0.3, 9);
    const loud = { ...quiet, samples: [{ sizeBytes: 4096, latencyNs: [800, 1000, 1000, 1300] }] };
    expect(compare(loud, [4096], [[1300]])[0].tolerance).toBeGreaterThan(0.3);
  });
});

describe("profileDevice elsewhere", () => {
  it("says so when the file system has no direct I/O", async ({ skip }) => {
    const { bavail, bsize } = statfsSync(temporaryMemory);
    // Containers often limit /dev/shm to 64 MiB.
    skip(bavail * bsize < 256 * MIB, "/dev/shm has too little room for a probe file");
    const profile = await measureTiny({ directory: temporaryMemory });
    expect(profile.reader).toMatchObject({ directIo: false, alignmentBytes: 1 });
    expect(profile.device?.["probeFileCheck"]).toBe("st_blocks (no FIEMAP: ENOTSUP)");
    const refused = measureTiny({ directory: temporaryMemory, directIo: "required" });
    expect(await rejection(refused)).toMatchObject({ code: "DIRECT_IO_UNSUPPORTED" });
  });

  it("P2: a page cache that grows meanwhile rejects the run: it is measured again, and says so", async ({
    skip,
  }) => {
    const folder = join(directory, "cached");
    let phases = 0;
    const profile = await measureTiny({
      directory: folder,
      onProgress: ({ phase }) => {
        // Another process reads the probe file through the page cache.
        if (phase === "queue" && phases++ === 0) {
          for (const name of readdirSync(folder)) readFileSync(join(folder, name));
        }
      },
    });
    skip(profile.reader?.directIo !== true, "this file system has no direct I/O");
    expect(profile.noise?.["repeatedRuns"]).toBe(1);
    const again = await measureTiny({ directory: folder });
    expect(again.noise).not.toHaveProperty("repeatedRuns");
  });

  it.each(PHASES)("stops when aborted during %s, and leaves only the probe file", async (phase) => {
    const controller = new AbortController();
    const folder = phase === "probe-file" ? join(directory, "aborted") : directory;
    let reached = false;
    const profiling = measureTiny({
      directory: folder,
      signal: controller.signal,
      onProgress: (step) => {
        if (step.phase !== phase || step.fraction > 0.999) return;
        reached = true;
        controller.abort(new Error("enough"));
      },
    });
    await profiling.then(
      () => {
        expect(reached, "only a phase without reads may be passed by").toBe(false);
      },
      (error: unknown) => {
        expect(error).toMatchObject({ message: "enough" });
      },
    );
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    expect(existsSync(folder)).toBe(true);
  });

  it("refuses sizes that cannot work", async () => {
    for (const fileBytes of [0, 63 * MIB, 64 * MIB + 1, NaN]) {
      expect(await rejection(profileDevice({ directory, fileBytes }))).toMatchObject({
        code: "INVALID_ARGUMENT",
      });
    }
    expect(await rejection(profileDevice({ directory, fileBytes: 2 ** 40 }))).toMatchObject({
      code: "NO_SPACE",
    });
  });
});

describe("P4: device facts", () => {
  it("P4: any fact that changes changes the key, their order does not", () => {
    const device = { model: "A", firmware: "1", kernel: "6.1", queueRequests: 64 };
    const facts = { device, identity: "serial wwid" };
    const key = keyOf(facts, {}, true);
    const reordered = { queueRequests: 64, kernel: "6.1", firmware: "1", model: "A" };
    expect(keyOf({ ...facts, device: reordered }, {}, true)).toBe(key);
    expect(keyOf(facts, { backend: "auto", directIo: "optional" }, true)).toBe(key);
    const others = [
      keyOf({ ...facts, device: { ...device, firmware: "2" } }, {}, true),
      keyOf({ ...facts, device: { ...device, queueRequests: 128 } }, {}, true),
      keyOf({ ...facts, identity: "another" }, {}, true),
      keyOf(facts, { backend: "pool" }, true),
      keyOf(facts, {}, false),
    ];
    expect(new Set([key, ...others]).size).toBe(1 + others.length);
  });

  it("P4: finds the mount that a path lies on", () => {
    const mountinfo = [
      "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard",
      "30 27 259:2 / /data rw,noatime shared:1 - xfs /dev/nvme0n1p2 rw,attr2",
      "31 30 0:50 / /data/my\\040disk rw - overlay overlay rw,lowerdir=/a:/b,index=off",
      "32 27 0:60 / /data2 rw - tmpfs tmpfs rw",
      "33 27 254:1 / / rw,noatime - btrfs /dev/vdb rw",
      "not a mount",
    ].join("\n");
    expect(findMount(mountinfo, "/data/models/a.bin")).toEqual({
      device: "259:2",
      fileSystem: "xfs",
      source: "/dev/nvme0n1p2",
      options: "attr2,noatime,rw",
    });
    expect(findMount(mountinfo, "/data/my disk/x")).toMatchObject({ options: "index=off,rw" });
    expect(findMount(mountinfo, "/data2")?.fileSystem).toBe("tmpfs");
    expect(findMount(mountinfo, "/home")?.fileSystem).toBe("btrfs");
    expect(findMount("", "/home")).toBeUndefined();
  });

  it("P4: reads a disk's facts through partitions and device mapper, and does without any", async () => {
    const sysfs = join(directory, "sysfs");
    const pci = join(sysfs, "devices/pci0/0000:01:00.0");
    const disk = join(pci, "nvme/nvme0/nvme0n1");
    const write = (path: string, text: string): void => {
      mkdirSync(join(path, ".."), { recursive: true });
      writeFileSync(path, `${text}\n`);
    };
    write(join(pci, "current_link_speed"), "16.0 GT/s PCIe");
    write(join(pci, "current_link_width"), "4");
    write(join(disk, "device/model"), "Example SSD 990");
    write(join(disk, "device/firmware_rev"), "1B2");
    write(join(disk, "device/serial"), "S123");
    write(join(disk, "wwid"), "eui.1");
    write(join(disk, "queue/scheduler"), "[none] mq-deadline");
    write(join(disk, "queue/nr_requests"), "1023");
    write(join(disk, "queue/max_sectors_kb"), "128");
    write(join(disk, "mq/0/cpu_list"), "0");
    write(join(disk, "mq/1/cpu_list"), "1");
    write(join(disk, "nvme0n1p2/partition"), "2");
    const mapper = join(sysfs, "devices/virtual/block/dm-0");
    mkdirSync(join(mapper, "slaves"), { recursive: true });
    symlinkSync(join(disk, "nvme0n1p2"), join(mapper, "slaves/nvme0n1p2"));
    mkdirSync(join(sysfs, "dev/block"), { recursive: true });
    symlinkSync(join(disk, "nvme0n1p2"), join(sysfs, "dev/block/259:2"));
    symlinkSync(mapper, join(sysfs, "dev/block/253:0"));
    const expected = {
      model: "Example SSD 990",
      firmware: "1B2",
      serial: "S123",
      wwid: "eui.1",
      link: "16.0 GT/s PCIe x4",
      scheduler: "none",
      queueRequests: 1023,
      hardwareQueues: 2,
      maxRequestBytes: 128 << 10,
    };
    expect(await disksBehind("259:2", sysfs)).toMatchObject([expected]);
    expect(await disksBehind("253:0", sysfs)).toMatchObject([expected]);
    expect(await disksBehind("8:0", sysfs)).toEqual([]);
  });

  it("P4: knows at least the kernel and the file system of a real path", async () => {
    const { device } = await deviceFacts(directory);
    expect(device.kernel).toBeDefined();
    expect(device.fileSystem).toBeDefined();
    expect(device).not.toHaveProperty("serial");
  });
});
