import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeE2e } from "../src/bench/e2e/describe";
import { requireDiskSpace } from "../src/bench/e2e/disk-space";
import { bfloat16Bits, float16Bits } from "../src/bench/e2e/half-floats";
import { createMemoryCgroup, type CgroupPlace } from "../src/bench/e2e/memory-cgroup";
import { ensureNodeLlamaCpp, NODE_LLAMA_CPP_VERSION } from "../src/bench/e2e/node-llama-cpp";
import { summarize, type E2eCase, type E2eReport, type PeerCase } from "../src/bench/e2e/report";

const run = promisify(execFile);
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-e2e-parts-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A /proc/self with these files. */
async function place(name: string, files: Record<string, string>): Promise<CgroupPlace> {
  const self = path.join(folder, name);
  await mkdir(self);
  await writeAll(self, files);
  return { self, make: mkdir, remove: rmdir };
}

async function writeAll(at: string, files: Record<string, string>): Promise<void> {
  for (const [file, text] of Object.entries(files)) await writeFile(path.join(at, file), text);
}

const V1_MOUNT = (at: string): string =>
  `30 25 0:26 / ${at} rw,relatime - cgroup cgroup rw,memory\n`;
const V2_MOUNT = (at: string): string => `31 25 0:27 / ${at} rw,relatime - cgroup2 cgroup2 rw\n`;

describe("memory control group", () => {
  it("is refused with the reason where none is mounted", async () => {
    const { group, reason } = await createMemoryCgroup(
      await place("none", { cgroup: "0::/\n", mountinfo: "1 0 0:1 / / rw - ext4 /dev/sda rw\n" }),
    );
    expect(group).toBeUndefined();
    expect(reason).toMatch(/No memory control group is mounted/);
  });

  it("is refused where /proc says nothing", async () => {
    const self = path.join(folder, "nowhere");
    const { reason } = await createMemoryCgroup({ self, make: mkdir, remove: rmdir });
    expect(reason).toMatch(/No memory control group is mounted/);
  });

  it("is refused with what the system says where its folder cannot be made", async () => {
    const { reason } = await createMemoryCgroup(
      await place("v1-missing", {
        cgroup: "4:memory:/not/there\n",
        mountinfo: V1_MOUNT(path.join(folder, "v1-missing")),
      }),
    );
    expect(reason).toMatch(/cannot be made|can be made: ENOENT/);
    expect(reason).toMatch(/as root/);
  });

  it("is refused, and removed, where a folder turns out to be no control group", async () => {
    const at = path.join(folder, "v1-plain-mount");
    await mkdir(at);
    const { reason } = await createMemoryCgroup(
      await place("v1-plain", { cgroup: "4:memory:/\n", mountinfo: V1_MOUNT(at) }),
    );
    expect(reason).toMatch(/no memory limit: ENOENT/);
    expect(await readdir(at)).toEqual([]);
  });

  /** Version 2 at `name`, with what the kernel puts into the groups down to `own` and into one that is made in it. */
  async function version2(name: string, own: string, root = "/"): Promise<CgroupPlace> {
    const at = path.join(folder, `${name}-mount`);
    await mkdir(path.join(at, own), { recursive: true });
    for (let group = path.join(at, own); group !== folder; group = path.dirname(group)) {
      await writeAll(group, { ...CORE, [CONTROLLERS]: "cpu memory pids\n" });
    }
    const mountinfo = V2_MOUNT(at).replace(" / ", ` ${root} `);
    const base = await place(name, { cgroup: `0::/${own}\n`, mountinfo });
    return {
      self: base.self,
      async make(group) {
        await mkdir(group);
        const control = await readFile(path.join(path.dirname(group), CONTROL), "utf8");
        if (!control.includes("memory") || control.includes("-memory")) return;
        const events = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n";
        await writeAll(group, {
          ...{ "memory.max": "max\n", "memory.swap.max": "max\n", "memory.peak": "0\n" },
          ...{ "memory.events": events, "cgroup.procs": "" },
        });
      },
      remove: (group) => rm(group, { recursive: true }),
    };
  }
  const CONTROL = "cgroup.subtree_control";
  const CONTROLLERS = "cgroup.controllers";
  const CORE = { [CONTROL]: "", "cgroup.procs": "" };
  const FILES = [CONTROLLERS, "cgroup.procs", CONTROL];
  const mounted = (name: string, ...inside: string[]): string =>
    path.join(folder, `${name}-mount`, ...inside);
  /** A folder in place of the file: it cannot be written to, as where the kernel refuses. */
  async function refuse(file: string): Promise<void> {
    await rm(file);
    await mkdir(file);
  }

  it("version 2: goes below a group that hands memory down, and leaves nothing behind", async () => {
    const at = await version2("v2-below", "own");
    await writeFile(mounted("v2-below", "own", CONTROL), "cpu memory\n");
    const { group, reason } = await createMemoryCgroup(at);
    expect(reason).toBeUndefined();
    expect(group?.version).toBe(2);
    expect(group?.folder).toMatch(/v2-below-mount\/own\/nchunk-bench-\d+$/);
    await group?.remove();
    expect((await readdir(mounted("v2-below", "own"))).sort()).toEqual(FILES);
    expect(await readFile(mounted("v2-below", "own", CONTROL), "utf8")).toBe("cpu memory\n");
  });

  it("version 2: has memory handed down for as long as the group lives", async () => {
    const at = await version2("v2-enable", "own");
    const { group } = await createMemoryCgroup(at);
    expect(await readFile(mounted("v2-enable", "own", CONTROL), "utf8")).toBe("+memory");
    await group?.remove();
    expect(await readFile(mounted("v2-enable", "own", CONTROL), "utf8")).toBe("-memory");
  });

  it("version 2: leaves it handed down to groups that others made meanwhile", async () => {
    const at = await version2("v2-others", "own");
    const { group } = await createMemoryCgroup(at);
    await mkdir(mounted("v2-others", "own", "another"));
    await group?.remove();
    expect(await readFile(mounted("v2-others", "own", CONTROL), "utf8")).toBe("+memory");
  });

  it.each(["memory pids\n", ""])(
    "version 2: goes beside its own group where that has processes in it, %j handed down",
    async (handedDown) => {
      const name = `v2-beside-${handedDown.length}`;
      const at = await version2(name, "slice/scope");
      await refuse(mounted(name, "slice/scope", CONTROL));
      await writeFile(mounted(name, "slice", CONTROL), handedDown);
      const { group } = await createMemoryCgroup(at);
      expect(group?.folder).toMatch(/v2-beside-\d+-mount\/slice\/nchunk-bench-\d+$/);
      await group?.remove();
      expect((await readdir(mounted(name, "slice"))).sort()).toEqual([...FILES, "scope"]);
    },
  );

  it("version 2: never goes above what is mounted", async () => {
    const at = await version2("v2-root", "");
    await refuse(mounted("v2-root", CONTROL));
    // What a group above the mount would look like.
    await writeAll(folder, { ...CORE, [CONTROLLERS]: "memory\n", [CONTROL]: "memory\n" });
    const { reason } = await createMemoryCgroup(at);
    for (const file of FILES) await rm(path.join(folder, file));
    expect(reason).toMatch(/cannot be handed down from .*v2-root-mount \(EISDIR/);
  });

  it("version 2: is refused, its own group first, where no process can be moved", async () => {
    const at = await version2("v2-moves", "slice/scope");
    for (const group of ["slice", "slice/scope"]) {
      await writeFile(mounted("v2-moves", group, CONTROL), "memory\n");
      await rm(mounted("v2-moves", group, "cgroup.procs"));
    }
    const { reason } = await createMemoryCgroup(at);
    expect(reason).toMatch(/slice\/scope \(ENOENT.*cgroup\.procs.*systemd-run --user --scope/);
  });

  it("version 2: is refused with the reason of the group above where its own lacks the controller", async () => {
    const at = await version2("v2-lacks", "slice/scope");
    await writeFile(mounted("v2-lacks", "slice/scope", CONTROLLERS), "cpu pids\n");
    await refuse(mounted("v2-lacks", "slice", CONTROL));
    expect((await createMemoryCgroup(at)).reason).toMatch(/handed down from .*\/slice \(EISDIR/);
    await writeFile(mounted("v2-lacks", "slice", CONTROLLERS), "cpu\n");
    const { reason } = await createMemoryCgroup(at);
    expect(reason).toMatch(/no memory controller in .*slice\/cgroup\.controllers/);
  });

  it("version 2: is refused where the groups are those of another namespace", async () => {
    const mount = await version2("v2-above", "", "/../..");
    expect((await createMemoryCgroup(mount)).reason).toMatch(/v2-above-mount are of another names/);
    const process = await version2("v2-outside", "../elsewhere");
    expect((await createMemoryCgroup(process)).reason).toMatch(/are of another namespace/);
  });

  it("version 2: is refused where swap is in use and has no limit", async () => {
    const plain = await version2("v2-swap", "own");
    await writeFile(mounted("v2-swap", "own", CONTROL), "memory\n");
    const at: CgroupPlace = {
      ...plain,
      async make(group) {
        await plain.make(group);
        await rm(path.join(group, "memory.swap.max"));
      },
    };
    const swaps = path.join(folder, "swaps");
    await writeFile(
      swaps,
      "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0\tpartition\t1\t0\t5\n",
    );
    const { reason } = await createMemoryCgroup(at);
    expect(reason).toMatch(/go to swap.*memory\.swap\.max.*swapoff/);
    expect((await readdir(mounted("v2-swap", "own"))).sort()).toEqual(FILES);
    await writeFile(swaps, "Filename\tType\tSize\tUsed\tPriority\n");
    const { group } = await createMemoryCgroup(at);
    expect(group).toBeDefined();
    await group?.remove();
    await rm(swaps);
  });

  it("version 2: a limit is set without swap, and peak and kills are those since", async () => {
    const at = await version2("v2-limit", "own");
    await writeFile(mounted("v2-limit", "own", CONTROL), "memory\n");
    const { group } = await createMemoryCgroup(at);
    if (group === undefined) throw new Error("no group");
    const file = (name: string): string => path.join(group.folder, name);
    await group.setLimit(1000);
    expect(await readFile(file("memory.max"), "utf8")).toBe("1000");
    expect(await readFile(file("memory.swap.max"), "utf8")).toBe("0");
    await writeAll(group.folder, { "memory.peak": "998\n", "memory.events": "oom_kill 2\n" });
    expect(await group.peakBytes()).toBe(998);
    expect(await group.oomKills()).toBe(2);
    await group.setLimit(2000);
    expect(await readFile(file("memory.max"), "utf8")).toBe("2000");
    expect(await group.peakBytes()).toBe(0);
    expect(await group.oomKills()).toBe(0);
    // Kernels before 5.19 do not tell.
    await rm(file("memory.peak"));
    expect(await group.peakBytes()).toBeUndefined();
    await group.remove();
  });

  it("limits a real process, where this machine lets one be made", async (context) => {
    const { group, reason } = await createMemoryCgroup();
    if (group === undefined) {
      context.skip(`no control group: ${reason}`);
      return;
    }
    try {
      await group.setLimit(64 * 2 ** 20);
      const enter = ["-c", 'echo $$ > "$0" && exec "$@"', group.procsFile, process.execPath, "-e"];
      const touch = (mebibytes: number): string =>
        `const b = []; for (let i = 0; i < ${mebibytes}; i++) b.push(Buffer.alloc(2**20, 1)); console.log(b.length)`;
      await expect(run("/bin/sh", [...enter, touch(256)])).rejects.toMatchObject({
        signal: "SIGKILL",
      });
      expect(await group.oomKills()).toBe(1);
      expect(await group.peakBytes()).toBeLessThanOrEqual(64 * 2 ** 20);
      await group.setLimit(512 * 2 ** 20);
      expect(await group.oomKills()).toBe(0);
      const { stdout } = await run("/bin/sh", [...enter, touch(128)]);
      expect(stdout).toBe("128\n");
      const peakBytes = await group.peakBytes();
      // Memory of the kernel's own is missing in some; what was touched is in.
      if (peakBytes !== undefined) expect(peakBytes).toBeGreaterThan(128 * 2 ** 20);
    } finally {
      await group.remove();
    }
    await expect(readFile(group.procsFile)).rejects.toMatchObject({ code: "ENOENT" });
  });
});

describe("requireDiskSpace", () => {
  const GIB = 2 ** 30;

  it("passes where there is room for the model and a margin", async () => {
    await expect(
      requireDiskSpace("/data", 15 * GIB, () => Promise.resolve(16 * GIB)),
    ).resolves.toBe(undefined);
  });

  it("refuses before anything is written, and says how much is missing and what helps", async () => {
    const error = await requireDiskSpace("/data", 15 * GIB, () => Promise.resolve(15 * GIB)).then(
      () => undefined,
      (thrown: Error & { code: string }) => thrown,
    );
    expect(error?.code).toBe("DISK_FULL");
    expect(error?.message).toMatch(/\/data has 15\.0 GiB free.*takes 15\.5 GiB/);
    expect(error?.message).toMatch(/--dir/);
  });

  it("asks the file system by itself", async () => {
    await expect(requireDiskSpace(folder, 2 ** 60)).rejects.toMatchObject({ code: "DISK_FULL" });
  });
});

describe("installing the peer", () => {
  const signal = new AbortController().signal;
  /** A command in place of npm. */
  async function command(name: string, script: string): Promise<string> {
    const file = path.join(folder, name);
    await writeFile(file, `#!/bin/sh\n${script}\n`);
    await chmod(file, 0o755);
    return file;
  }

  it("says why it failed, and leaves nothing", async () => {
    const cache = path.join(folder, "cache-offline");
    const npm = await command(
      "npm-offline",
      'echo "npm error code ENOTFOUND" >&2; echo "npm error no network here" >&2; exit 1',
    );
    const { dir, reason } = await ensureNodeLlamaCpp(cache, signal, npm);
    expect(dir).toBeUndefined();
    expect(reason).toMatch(/cannot be installed: no network here/);
    expect(await readdir(cache)).toEqual([]);
  });

  it("says that npm is not there", async () => {
    const npm = path.join(folder, "no-such-npm");
    const { reason } = await ensureNodeLlamaCpp(path.join(folder, "cache-none"), signal, npm);
    expect(reason).toMatch(/cannot be installed: .*ENOENT/);
  });

  it("asks for the pinned version without scripts or other platforms' binaries, once", async () => {
    const cache = path.join(folder, "cache-good");
    const npm = await command(
      "npm-good",
      'echo "$@" >> "$0.log"; mkdir -p node_modules/node-llama-cpp && echo "{}" > node_modules/node-llama-cpp/package.json',
    );
    const first = await ensureNodeLlamaCpp(cache, signal, npm);
    const second = await ensureNodeLlamaCpp(cache, signal, npm);
    expect(first.reason).toBeUndefined();
    expect(second).toEqual(first);
    const log = (await readFile(`${npm}.log`, "utf8")).trim().split("\n");
    expect(log).toHaveLength(1);
    expect(log[0]).toContain(`node-llama-cpp@${NODE_LLAMA_CPP_VERSION}`);
    expect(log[0]).toContain("--ignore-scripts");
    expect(log[0]).toContain("--omit=optional");
    expect(NODE_LLAMA_CPP_VERSION).toMatch(/^\d+\.\d+\.\d+$/);
  });
});

describe("16-bit floats", () => {
  it.each([
    [0, 0x0000],
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [2 ** -14, 0x0400],
    [2 ** -24, 0x0001],
    // Ties to even: between 1 and 1 + 2^-10, and between that and 1 + 2^-9.
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    // A carry into the exponent.
    [2 - 2 ** -12, 0x4000],
    [0.1, 0x2e66],
  ])("binary16 of %d", (value, bits) => expect(float16Bits(value)).toBe(bits));

  it.each([
    [0, 0x0000],
    [1, 0x3f80],
    [-2, 0xc000],
    [1 + 2 ** -8, 0x3f80],
    [1 + 3 * 2 ** -8, 0x3f82],
    [0.1, 0x3dcd],
  ])("bfloat16 of %d", (value, bits) => expect(bfloat16Bits(value)).toBe(bits));
});

describe("summarize", () => {
  const one = (peakRssBytes: number): E2eCase =>
    ({ peakRssBytes, budgetBytes: 100 }) as unknown as E2eCase;
  const peer = (memoryFraction: number, ratio: number | null): PeerCase =>
    ({ memoryFraction, ratio }) as unknown as PeerCase;

  it("takes the median overlap, the highest memory, and each limit's ratio", () => {
    expect(
      summarize([one(80), one(110)], [1, 3, 1.2], [peer(0.25, 6), peer(0.5, null), peer(0.75, 2)]),
    ).toEqual({ overlapMedian: 1.2, rssToBudgetMax: 1.1, peer25: 6, peer50: null, peer75: 2 });
  });

  it("is empty where nothing was measured", () => {
    expect(Object.values(summarize([], [], []))).toEqual([null, null, null, null, null]);
  });
});

describe("describeE2e", () => {
  const GIB = 2 ** 30;
  const peer = (memoryFraction: number, rest: Partial<PeerCase>): PeerCase => ({
    model: "big model",
    memoryFraction,
    limitBytes: memoryFraction * 4 * GIB,
    policy: "lagrange",
    ours: null,
    theirs: null,
    ratio: null,
    oursDense: null,
    ratioDense: null,
    oursPeakBytes: null,
    theirsPeakBytes: null,
    readAheadBytes: null,
    rounds: 1,
    ...rest,
  });
  const report = (rest: Partial<E2eReport>): E2eReport => ({
    bench: "e2e",
    effort: "default",
    seed: 1,
    cases: [],
    peer: [],
    summary: summarize([], [], []),
    profile: { name: "disk" },
    note: "",
    conditions: {
      threads: 2,
      arithmetic: "f32",
      loadPerCore: [0, 1],
      readAheadBytes: 131_072,
      peerVersion: "v1",
    },
    ...rest,
  });

  it("puts both sides of each limit in one row, and says why one is missing", () => {
    const text = describeE2e(
      report({
        peer: [
          peer(0.25, { ours: 2, theirs: 0.4, ratio: 5, oursDense: 1, ratioDense: 2.5 }),
          peer(0.5, { theirs: 0.8, reason: "ours: It was killed for lack of memory." }),
        ],
      }),
    );
    expect(text).toMatch(/big model beside llama\.cpp \(v1, memory-mapped, F16\)/);
    expect(text).toMatch(/25\.0 % \(1\.0 GiB\) +│ +2\.00 +│ +1\.00 +│ +0\.40 +│ +5\.00 +│ +2\.50/);
    expect(text).toMatch(/50\.0 % \(2\.0 GiB\) +│ +- +│ +- +│ +0\.80 +│ +- +│ +-/);
    expect(text).toContain("At 50.0 %: ours: It was killed for lack of memory.");
    expect(text).toContain("128.0 KiB ahead");
  });

  it("says what was read ahead for llama.cpp where that is not the system's setting", () => {
    const text = describeE2e(
      report({ peer: [peer(0.25, {}), peer(0.5, { theirs: 1, readAheadBytes: 2 ** 20 })] }),
    );
    expect(text).toMatch(
      /read 1\.0 MiB ahead for llama\.cpp \(--peer-read-ahead\).* 128\.0 KiB, as before/,
    );
  });

  it("says why there is no comparison", () => {
    const text = describeE2e(report({ peerSkipped: "No control group can be made." }));
    expect(text).toContain("Not compared with llama.cpp: No control group can be made.");
  });
});
