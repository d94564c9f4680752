import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BlockDevice } from "../src/doctor/block-device";
import {
  checkCores,
  checkCpu,
  checkFreeSpace,
  checkLimits,
  checkMemory,
  checkMemoryLimit,
  checkNode,
  checkPlatform,
} from "../src/doctor/check-machine";
import { checkDirectIo, checkIoUring } from "../src/doctor/check-reading";
import { checkDevice, checkFileSystem, checkLink, checkStorage } from "../src/doctor/check-storage";
import type { Diagnosis } from "../src/doctor/finding";
import type { IoTrial } from "../src/doctor/io-trial";
import {
  mountOf,
  parseCpuinfo,
  parseLimits,
  parseMeminfo,
  parseMountinfo,
} from "../src/doctor/proc-text";
import { describeDiagnosis, verdict } from "../src/doctor/text";
import { nchunk } from "./support/cli";
import * as texts from "./support/proc-texts";

const MIB = 2 ** 20;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-doctor-test-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("what a finding says", () => {
  it("processor: the kernels that its flags allow", () => {
    expect(checkCpu(parseCpuinfo(texts.CPUINFO_X86), "x64").value).toMatch(/AVX-512 kernels.*vnni/);
    expect(checkCpu(parseCpuinfo(texts.CPUINFO_RASPBERRY), "arm64")).toMatchObject({
      status: "ok",
      value: expect.stringMatching(/NEON kernels.*asimddp/) as string,
    });
    expect(checkCpu(parseCpuinfo(texts.CPUINFO_OLD_X86), "x64")).toMatchObject({
      status: "warn",
      value: expect.stringContaining("portable") as string,
      cost: expect.any(String) as string,
    });
    expect(checkCpu(parseCpuinfo(""), "arm64").status).toBe("ok");
  });

  it("cores: a quota below the cores costs", () => {
    expect(checkCores(4, {}).status).toBe("ok");
    expect(checkCores(4, { cores: 4 }).status).toBe("ok");
    expect(checkCores(4, { cores: 1.5 })).toMatchObject({
      status: "warn",
      remedy: expect.stringContaining("--threads 1") as string,
    });
  });

  it("memory: too little for the demonstration is a failure, little is a warning", () => {
    const memory = (mib: number) => checkMemory(new Map([["MemAvailable", mib * MIB]])).status;
    expect([memory(200), memory(600), memory(4096)]).toEqual(["fail", "warn", "ok"]);
    expect(checkMemory(parseMeminfo(texts.MEMINFO_JETSON)).value).toBe(
      "4.8 GiB available of 7.4 GiB",
    );
    expect(checkMemory(new Map()).status).toBe("ok");
    expect(checkMemoryLimit({ memoryBytes: 128 * MIB }).status).toBe("fail");
    expect(checkMemoryLimit({})).toMatchObject({ status: "ok", value: "none" });
  });

  it("space, limits, system and Node.js", () => {
    expect([10, 300, 5000].map((mib) => checkFreeSpace(mib * MIB).status)).toEqual([
      "fail",
      "warn",
      "ok",
    ]);
    const statuses = checkLimits(parseLimits(texts.LIMITS)).map(({ id, status }) => [id, status]);
    expect(statuses).toEqual([
      ["locked-memory", "warn"],
      ["open-files", "ok"],
    ]);
    expect(checkLimits(new Map())).toEqual([]);
    expect(checkPlatform("darwin", "23").status).toBe("fail");
    expect(checkNode("18.19.1").status).toBe("fail");
    expect(checkNode("22.1.0").status).toBe("ok");
  });

  it("file systems: in memory, remote and compressed ones cost", () => {
    const mounts = parseMountinfo(
      `${texts.MOUNTINFO_LAPTOP}60 22 0:50 / /mnt/nas rw - nfs4 nas:/models rw\n` +
        "61 22 0:51 / /run rw - tmpfs tmpfs rw\n",
    );
    const status = (file: string) => {
      const mount = mountOf(mounts, file);
      return checkFileSystem({ ...(mount ? { mount } : {}), disks: [] }).status;
    };
    expect(["/home", "/tmp", "/mnt/nas/x", "/run/x"].map(status)).toEqual([
      "warn",
      "ok",
      "warn",
      "warn",
    ]);
    expect(checkFileSystem({ disks: [] }).status).toBe("ok");
  });

  it("disks: spinning, on USB, or on half a link", () => {
    const disk: BlockDevice = { name: "sda", isUsb: false, isVirtual: false };
    expect(checkDevice({ ...disk, isRotational: true }).status).toBe("warn");
    expect(checkDevice({ ...disk, isRotational: true, isVirtual: true }).status).toBe("ok");
    expect(checkDevice(disk).value).toContain("not shown");
    expect(checkLink(disk)).toBeUndefined();
    expect(checkLink({ ...disk, isUsb: true })?.status).toBe("warn");
    const link = { gigatransfers: 8, lanes: 4, maxGigatransfers: 16, maxLanes: 4 };
    expect(checkLink({ ...disk, link })?.cost).toMatch(/3\.9 GB\/s instead of 7\.9 GB\/s/);
    expect(checkLink({ ...disk, link: { gigatransfers: 16, lanes: 4 } })?.status).toBe("ok");
    const ids = checkStorage({ disks: [disk, { ...disk, name: "sdb", isUsb: true }] }).map(
      ({ id }) => id,
    );
    expect(ids).toEqual(["file-system", "device:sda", "device:sdb", "link:sdb"]);
  });

  it("io_uring refused: the cause, its errno, what it costs and what to do", () => {
    const refused = {
      tier: "io_uring-direct",
      reason: "the kernel refuses io_uring",
      errno: "EPERM",
    } as const;
    const trial: IoTrial = {
      ioUring: { error: new Error("no"), errno: "EPERM" },
      auto: {
        backend: { name: "pool", directIo: true, tier: "pool-direct", refused: [refused] },
        alignmentBytes: 512,
      },
    };
    expect(checkIoUring(trial, "0")).toMatchObject({
      status: "warn",
      value: "not available: the kernel refuses io_uring (EPERM)",
      remedy: expect.stringContaining("seccomp") as string,
    });
    expect(checkIoUring(trial, "2").remedy).toContain("kernel.io_uring_disabled is 2");
    expect(checkDirectIo(trial.auto).status).toBe("ok");
    expect(checkDirectIo({ error: new Error("EIO") }).status).toBe("fail");
  });

  it("the list is aligned, wrapped and ends in a verdict", () => {
    const diagnosis: Diagnosis = {
      ok: false,
      path: "/x",
      findings: [
        { id: "a", title: "A", status: "ok", value: "fine" },
        {
          id: "b",
          title: "Longer",
          status: "warn",
          value: "so so",
          cost: "word ".repeat(40).trim(),
        },
        { id: "c", title: "C", status: "fail", value: "bad", cost: "all", remedy: "something" },
      ],
    };
    const lines = describeDiagnosis(diagnosis, 60).split("\n");
    expect(lines[0]).toBe("✓ A       fine");
    expect(lines[1]).toBe("! Longer  so so");
    expect(lines.every((line) => line.length <= 60)).toBe(true);
    expect(lines).toContain("          do: something");
    expect(lines[lines.length - 1]).toBe("nchunk cannot run here: c.");
    const [first, second] = diagnosis.findings;
    expect(verdict({ ...diagnosis, ok: true, findings: [first, second] })).toContain("longer");
    expect(verdict({ ...diagnosis, ok: true, findings: [first] })).toContain("nothing is missing");
  });
});

describe("nchunk doctor", () => {
  async function doctor(args: string[], env: Record<string, string> = {}) {
    const { status, stdout, stderr } = await nchunk(["doctor", ...args, "--json"], env);
    const diagnosis = JSON.parse(stdout) as Diagnosis;
    const finding = (id: string) => diagnosis.findings.find((found) => found.id === id);
    return { status, stderr, diagnosis, finding };
  }

  it("R4: looks at a folder by reading from it, says the tier, and leaves nothing behind", async () => {
    const { status, diagnosis, finding } = await doctor([folder]);
    expect(diagnosis.path).toBe(folder);
    expect(finding("backend")?.value).toMatch(/^(io_uring|pool)-(direct|buffered)/);
    for (const id of ["platform", "node", "native-reader", "native-kernels", "path"]) {
      expect(finding(id)?.status).toBe("ok");
    }
    for (const { status: found, cost } of diagnosis.findings) {
      expect(cost === undefined).toBe(found === "ok");
    }
    expect(diagnosis.ok).toBe(diagnosis.findings.every((found) => found.status !== "fail"));
    expect(status).toBe(diagnosis.ok ? 0 : 1);
    expect(await readdir(folder)).toEqual([]);
  });

  it("speaks to people, and looks at the cache folder by itself", async () => {
    const cache = path.join(folder, "cache");
    const { stdout, stderr } = await nchunk(["doctor"], { NCHUNK_CACHE_DIR: cache });
    expect(stdout).toContain(`${cache}, writable`);
    expect(stdout.trimEnd().split("\n").pop()).toMatch(/^nchunk can(not)? run here/);
    expect(stderr).toBe("");
    expect((await stat(cache)).isDirectory()).toBe(true);
    await rm(cache, { recursive: true });
  });

  it("a folder that does not exist, and a file, fail", async () => {
    const file = path.join(folder, "file");
    await writeFile(file, "x");
    for (const wrong of ["/nowhere/at/all", file]) {
      const { status, finding, diagnosis } = await doctor([wrong]);
      expect(status).toBe(1);
      expect(diagnosis.ok).toBe(false);
      expect(finding("path")).toMatchObject({
        status: "fail",
        remedy: expect.stringContaining("NCHUNK_CACHE_DIR") as string,
      });
      expect(finding("memory")).toBeDefined();
    }
    await rm(file);
  });

  it("a cache folder that cannot be made fails", async () => {
    const file = path.join(folder, "in-the-way");
    await writeFile(file, "x");
    const { status, finding } = await doctor([], { NCHUNK_CACHE_DIR: path.join(file, "cache") });
    expect(status).toBe(1);
    expect(finding("path")?.status).toBe("fail");
    await rm(file);
  });

  it.each([
    ["flash_io.node", "native-reader", "flash-io-addon"],
    ["kernels.node", "native-kernels", "kernels-addon"],
  ])(
    "%s missing is a finding, and one clear line for every other verb",
    async (file, id, addon) => {
      const hook = path.join(folder, "hide.cjs");
      await writeFile(
        hook,
        `const Module = require("node:module");
       const load = Module._load;
       Module._load = function (request, ...rest) {
         if (String(request).endsWith("${file}")) throw new Error("hidden by a test");
         return load.call(this, request, ...rest);
       };`,
      );
      const env = { NODE_OPTIONS: `--require ${hook}` };
      const { status, finding } = await doctor([os.tmpdir()], env);
      expect(status).toBe(1);
      expect(finding(id)).toMatchObject({
        status: "fail",
        value: expect.stringContaining(addon) as string,
        remedy: expect.stringContaining("npm run setup") as string,
      });
      expect(finding("path")?.status).toBe("ok");
      expect(finding("cpu")).toBeDefined();
      const profile = await nchunk(["profile", "--json"], env);
      expect(profile.status).toBe(1);
      expect(profile.stderr).toContain(addon);
      expect(profile.stderr).toContain("nchunk doctor");
      expect(profile.stderr).not.toMatch(/\n\s+at /);
      expect(JSON.parse(profile.stdout)).toMatchObject({ error: { code: "ASSET_MISSING" } });
      await rm(hook);
    },
  );

  it("a read-only folder fails", async () => {
    // Permissions do not stop root; sysfs stops everyone.
    const readOnly = process.getuid?.() === 0 ? "/sys/kernel" : path.join(folder, "read-only");
    if (readOnly !== "/sys/kernel") {
      await mkdir(readOnly);
      await chmod(readOnly, 0o555);
    }
    const { status, finding } = await doctor([readOnly]);
    expect(status).toBe(1);
    expect(finding("path")?.value).toMatch(/cannot be written/);
  });

  it("R11: a file system in memory is a warning, and reads are right", async (context) => {
    const inMemory = await stat("/dev/shm").catch(() => undefined);
    if (!inMemory) context.skip("this machine has no /dev/shm");
    const { status, diagnosis, finding } = await doctor(["/dev/shm"]);
    expect(finding("direct-io")).toMatchObject({
      status: "warn",
      cost: expect.stringContaining("page cache") as string,
    });
    expect(finding("file-system")?.status).toBe("warn");
    expect(finding("backend")?.value).toContain("buffered");
    expect(diagnosis.findings.filter((found) => found.status === "fail")).toEqual([]);
    expect(status).toBe(0);
    expect((await readdir("/dev/shm")).filter((name) => name.startsWith(".nchunk-doctor"))).toEqual(
      [],
    );
  });
});
