import { afterEach, describe, expect, it } from "vitest";
import {
  majorMinor,
  parsePciLink,
  parseScheduler,
  pciBytesPerSecond,
  storageOf,
} from "../src/doctor/block-device";
import { cgroupLimits } from "../src/doctor/cgroup";
import {
  cpuQuota,
  mountOf,
  parseCpuinfo,
  parseCpuMax,
  parseLimits,
  parseMeminfo,
  parseMemoryLimit,
  parseMountinfo,
  parseSelfCgroup,
} from "../src/doctor/proc-text";
import { fakeSystem } from "./support/fake-system";
import * as texts from "./support/proc-texts";

const removals: (() => Promise<void>)[] = [];
async function system(files: Record<string, string>, links: Record<string, string> = {}) {
  const fake = await fakeSystem(files, links);
  removals.push(fake.remove);
  return fake.files;
}
afterEach(async () => {
  for (const remove of removals.splice(0)) await remove();
});

describe("/proc texts", () => {
  it("reads soft limits, unlimited ones included", () => {
    const limits = parseLimits(texts.LIMITS);
    expect(limits.get("Max open files")).toBe(1024);
    expect(limits.get("Max locked memory")).toBe(65536);
    expect(limits.get("Max address space")).toBe(Infinity);
    expect(limits.has("Limit")).toBe(false);
  });

  it("reads memory in bytes and plain counts", () => {
    const memory = parseMeminfo(texts.MEMINFO_JETSON);
    expect(memory.get("MemAvailable")).toBe(5021444 * 1024);
    expect(memory.get("Active(anon)")).toBe(21544 * 1024);
    expect(memory.get("HugePages_Total")).toBe(0);
  });

  it("reads the first processor of x86", () => {
    const { model, features } = parseCpuinfo(texts.CPUINFO_X86);
    expect(model).toBe("Intel(R) Xeon(R) Platinum 8480+");
    expect([...features]).toEqual(expect.arrayContaining(["avx2", "avx512_vnni"]));
    expect(features.has("spectre_v1")).toBe(false);
  });

  it("reads ARM, by board, or by part where no name is given", () => {
    const board = parseCpuinfo(texts.CPUINFO_RASPBERRY);
    expect(board.model).toBe("Raspberry Pi 5 Model B Rev 1.0");
    expect(board.features.has("asimddp")).toBe(true);
    expect(parseCpuinfo(texts.CPUINFO_ARM_SERVER).model).toBe("implementer 0x41, part 0xd40");
  });

  it.each([
    ["", undefined],
    ["max\n", undefined],
    [texts.V1_NO_LIMIT, undefined],
    ["2147483648\n", 2 ** 31],
  ])("takes %j as a memory limit of %s", (text, bytes) => {
    expect(parseMemoryLimit(text)).toBe(bytes);
  });

  it.each([
    ["max 100000\n", undefined],
    ["150000 100000\n", 1.5],
    ["50000\n", 0.5],
    ["", undefined],
  ])("takes %j as %s cores", (text, cores) => {
    expect(parseCpuMax(text)).toBe(cores);
  });

  it("takes a quota of -1, and none, for no limit", () => {
    expect(cpuQuota(-1, 100_000)).toBeUndefined();
    expect(cpuQuota(NaN, NaN)).toBeUndefined();
  });

  it("reads control groups of both versions", () => {
    const { unified, byController } = parseSelfCgroup(texts.CGROUP_V1);
    expect(unified).toBe("/system.slice/containerd.service");
    expect(byController.get("cpuacct")).toBe("/docker/abc");
    expect(parseSelfCgroup(texts.CGROUP_V2).unified).toBe("/app.slice/run.scope");
  });

  it("finds the deepest and latest mount of a path, with blanks in its name", () => {
    const mounts = parseMountinfo(texts.MOUNTINFO_LAPTOP);
    const fileSystem = (file: string) => mountOf(mounts, file)?.fileSystem;
    expect(mounts).toHaveLength(6);
    expect(fileSystem("/home/me")).toBe("btrfs");
    expect(fileSystem("/tmp/x")).toBe("xfs");
    expect(fileSystem("/tmpfoo")).toBe("btrfs");
    expect(fileSystem("/boot/efi")).toBe("vfat");
    expect(mountOf(mounts, "/media/me/My Disk/models")).toMatchObject({
      fileSystem: "ext4",
      source: "/dev/sdb1",
    });
    expect(mountOf([], "/")).toBeUndefined();
  });

  it("throws on nothing, however broken", () => {
    for (const text of ["", "\n\n", "\0:::- - -", "a".repeat(10_000), "0::", "1 2 3 4 5 6 -"]) {
      expect(parseLimits(text).size).toBe(0);
      expect(parseMountinfo(text)).toEqual([]);
      expect(parseCpuinfo(text).features.size).toBe(0);
      expect(() => [parseMeminfo(text), parseSelfCgroup(text), parseCpuMax(text)]).not.toThrow();
    }
  });
});

describe("control group limits", () => {
  it("version 2: the lowest on the way up applies", async () => {
    const files = await system({
      "/proc/self/cgroup": texts.CGROUP_V2,
      "/proc/self/mountinfo": texts.MOUNTINFO_V2,
      "/sys/fs/cgroup/app.slice/run.scope/memory.max": "max\n",
      "/sys/fs/cgroup/app.slice/memory.max": "536870912\n",
      "/sys/fs/cgroup/app.slice/cpu.max": "max 100000\n",
      "/sys/fs/cgroup/cpu.max": "50000 100000\n",
    });
    expect(await cgroupLimits(files)).toEqual({ memoryBytes: 512 * 2 ** 20, cores: 0.5 });
  });

  it("version 1: paths are those of the host, folders those of the container", async () => {
    const files = await system({
      "/proc/self/cgroup": texts.CGROUP_V1,
      "/proc/self/mountinfo": texts.MOUNTINFO_V1,
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    });
    expect(await cgroupLimits(files)).toEqual({ memoryBytes: 2 ** 30, cores: 2 });
  });

  it("version 1 without limits, and no control groups at all", async () => {
    const unlimited = await system({
      "/proc/self/cgroup": texts.CGROUP_V1,
      "/proc/self/mountinfo": texts.MOUNTINFO_V1,
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": texts.V1_NO_LIMIT,
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    });
    expect(await cgroupLimits(unlimited)).toEqual({});
    expect(await cgroupLimits(await system({}))).toEqual({});
  });
});

describe("disks", () => {
  const PCI = "/sys/devices/pci0000:00/0000:01:00.0";
  const DISK = `${PCI}/nvme/nvme0/nvme0n1`;
  const nvme = {
    [`${PCI}/current_link_speed`]: "8.0 GT/s PCIe\n",
    [`${PCI}/current_link_width`]: "4\n",
    [`${PCI}/max_link_speed`]: "16.0 GT/s PCIe\n",
    [`${PCI}/max_link_width`]: "4\n",
    [`${PCI}/nvme/nvme0/model`]: "Example SSD 990 PRO                     \n",
    [`${PCI}/nvme/nvme0/firmware_rev`]: "4B2QJXD7\n",
    [`${DISK}/queue/rotational`]: "0\n",
    [`${DISK}/queue/scheduler`]: "[none] mq-deadline kyber\n",
    [`${DISK}/queue/nr_requests`]: "1023\n",
    [`${DISK}/queue/max_sectors_kb`]: "128\n",
    [`${DISK}/queue/logical_block_size`]: "512\n",
    [`${DISK}/nvme0n1p2/partition`]: "2\n",
  };
  const links = {
    [`${DISK}/device`]: `${PCI}/nvme/nvme0`,
    [`${PCI}/nvme/nvme0/device`]: PCI,
    "/sys/dev/block/259:2": `${DISK}/nvme0n1p2`,
  };
  const facts = {
    name: "nvme0n1",
    model: "Example SSD 990 PRO",
    firmware: "4B2QJXD7",
    link: { gigatransfers: 8, lanes: 4, maxGigatransfers: 16, maxLanes: 4 },
    isRotational: false,
    isVirtual: false,
    isUsb: false,
    scheduler: "none",
    queueRequests: 1023,
    maxRequestBytes: 128 * 1024,
    logicalBlockBytes: 512,
  };
  const deviceNumber = (major: number, minor: number) => (major << 8) | minor;

  it("goes from a partition to its disk and to the PCI link", async () => {
    const storage = await storageOf(
      await system(nvme, links),
      "/models",
      deviceNumber(259 & 0xfff, 2),
    );
    expect(storage.disks).toEqual([facts]);
  });

  it("goes through device mapper, and names each disk once", async () => {
    const mapper = "/sys/devices/virtual/block/dm-0";
    const files = await system(
      { ...nvme, [`${mapper}/dm/name`]: "luks-1" },
      {
        ...links,
        "/sys/dev/block/253:0": mapper,
        [`${mapper}/slaves/nvme0n1p2`]: `${DISK}/nvme0n1p2`,
        [`${mapper}/slaves/nvme0n1`]: DISK,
      },
    );
    const storage = await storageOf(files, "/models", deviceNumber(253, 0));
    expect(storage.disks).toEqual([facts]);
  });

  it("tells a virtual disk and a spinning one by what sysfs shows, and bears its absence", async () => {
    const virtual = "/sys/devices/pci0000:00/virtio1/block/vda";
    const spinning = "/sys/devices/pci0000:00/ata1/host0/block/sda";
    const files = await system(
      {
        [`${virtual}/queue/rotational`]: "1\n",
        [`${spinning}/queue/rotational`]: "1\n",
        [`${spinning}/queue/scheduler`]: "none mq-deadline [bfq]\n",
        "/sys/devices/pci0000:00/virtio1/device": "0x0002\n",
      },
      {
        [`${virtual}/device`]: "/sys/devices/pci0000:00/virtio1",
        "/sys/dev/block/254:0": virtual,
        "/sys/dev/block/8:0": spinning,
      },
    );
    const [vda] = (await storageOf(files, "/", deviceNumber(254, 0))).disks;
    expect(vda).toEqual({ name: "vda", isVirtual: true, isUsb: false, isRotational: true });
    const [sda] = (await storageOf(files, "/", deviceNumber(8, 0))).disks;
    expect(sda).toMatchObject({ isVirtual: false, isRotational: true, scheduler: "bfq" });
    expect(await storageOf(files, "/", deviceNumber(9, 9))).toEqual({ disks: [] });
  });

  it("computes what a link carries, and knows none from nonsense", () => {
    expect(pciBytesPerSecond(8, 4) / 1e9).toBeCloseTo(3.94, 2);
    expect(pciBytesPerSecond(5, 1) / 1e9).toBeCloseTo(0.5, 6);
    expect(parsePciLink("Unknown", "0")).toBeUndefined();
    expect(parsePciLink("2.5 GT/s PCIe", "255")).toBeUndefined();
    expect(parsePciLink(undefined, undefined)).toBeUndefined();
    expect(parseScheduler("none")).toBe("none");
    expect(majorMinor(deviceNumber(254, 3))).toBe("254:3");
  });
});
