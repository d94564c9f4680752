import { mountOf, parseMountinfo, type Mount } from "./proc-text";
import type { SystemFiles } from "./system-files";

/** A PCI link as sysfs tells it. */
export interface PciLink {
  /** Transfers per second and lane, in GT/s. */
  readonly gigatransfers: number;
  readonly lanes: number;
  /** What device and slot could do together at most, when sysfs says so. */
  readonly maxGigatransfers?: number;
  readonly maxLanes?: number;
}

/** What can be read about a disk without privileges; every fact may be missing. */
export interface BlockDevice {
  /** The kernel's name, `nvme0n1` for example. */
  readonly name: string;
  readonly model?: string;
  readonly firmware?: string;
  readonly link?: PciLink;
  readonly isUsb: boolean;
  /** A disk of a virtual machine, which tells little that is true of the disk behind it. */
  readonly isVirtual: boolean;
  readonly isRotational?: boolean;
  readonly scheduler?: string;
  readonly queueRequests?: number;
  readonly maxRequestBytes?: number;
  readonly logicalBlockBytes?: number;
  readonly readAheadBytes?: number;
}

export interface Storage {
  readonly mount?: Mount;
  /** The disks behind the mount: several under RAID or LVM, none under a file system in memory or on a network. */
  readonly disks: readonly BlockDevice[];
}

/** Device mapper and RAID stack a few levels; deeper than this is a loop. */
const MAX_STACK = 8;

/** Splits a Linux device number as glibc does. */
export function majorMinor(device: number): string {
  const number = BigInt(device);
  const major = ((number >> 8n) & 0xfffn) | ((number >> 32n) & ~0xfffn);
  const minor = (number & 0xffn) | ((number >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

/** `2.5 GT/s PCIe` and `4`; "Unknown" and 255 lanes are what bridges without a link say. */
export function parsePciLink(
  speed: string | undefined,
  width: string | undefined,
  maxSpeed?: string,
  maxWidth?: string,
): PciLink | undefined {
  const rate = (text: string | undefined): number =>
    Number(/^(\d+(?:\.\d+)?)\s*GT\/s/.exec(text ?? "")?.[1] ?? NaN);
  const lanesOf = (text: string | undefined): number =>
    /^\d+$/.test(text ?? "") ? Number(text) : NaN;
  const [gigatransfers, lanes] = [rate(speed), lanesOf(width)];
  if (!(gigatransfers > 0 && lanes > 0 && lanes <= 32)) return undefined;
  const [maxGigatransfers, maxLanes] = [rate(maxSpeed), lanesOf(maxWidth)];
  return {
    gigatransfers,
    lanes,
    ...(maxGigatransfers > 0 ? { maxGigatransfers } : {}),
    ...(maxLanes > 0 && maxLanes <= 32 ? { maxLanes } : {}),
  };
}

/** Bytes per second that a link carries at most: 8b/10b coding up to 5 GT/s, 128b/130b and better above (PCIe). */
export function pciBytesPerSecond(gigatransfers: number, lanes: number): number {
  const coding = gigatransfers <= 5 ? 8 / 10 : 128 / 130;
  return (gigatransfers * 1e9 * lanes * coding) / 8;
}

/** The scheduler in brackets: `none [mq-deadline] kyber`. */
export const parseScheduler = (text: string): string | undefined =>
  /\[([^\]]+)\]/.exec(text)?.[1] ?? (/^\S+$/.test(text.trim()) ? text.trim() : undefined);

/** The PCI function above an NVMe disk: its controller's `device`, one level deeper with multipath. */
async function nvmeLink(files: SystemFiles, disk: string): Promise<PciLink | undefined> {
  const controllers = (await files.list(`${disk}/device`)).filter((name) => /^nvme\d+$/.test(name));
  const candidates = [`${disk}/device`, ...controllers.map((name) => `${disk}/device/${name}`)];
  for (const controller of candidates) {
    const fact = (name: string): Promise<string | undefined> =>
      files.text(`${controller}/device/${name}`);
    const link = parsePciLink(
      await fact("current_link_speed"),
      await fact("current_link_width"),
      await fact("max_link_speed"),
      await fact("max_link_width"),
    );
    if (link) return link;
  }
  return undefined;
}

async function describeDisk(files: SystemFiles, disk: string): Promise<BlockDevice> {
  const fact = (name: string): Promise<string | undefined> => files.text(`${disk}/${name}`);
  const count = async (name: string): Promise<number | undefined> => {
    const text = await fact(name);
    return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
  };
  const name = disk.slice(disk.lastIndexOf("/") + 1);
  const driver = (await files.real(`${disk}/device`)) ?? disk;
  const rotational = await fact("queue/rotational");
  const [maxKib, readAheadKib] = [
    await count("queue/max_sectors_kb"),
    await count("queue/read_ahead_kb"),
  ];
  const facts = {
    // SD cards and eMMC call their model a name.
    model: (await fact("device/model")) ?? (await fact("device/name")),
    firmware: (await fact("device/firmware_rev")) ?? (await fact("device/rev")),
    link: name.startsWith("nvme") ? await nvmeLink(files, disk) : undefined,
    isRotational: rotational === undefined ? undefined : rotational === "1",
    scheduler: parseScheduler((await fact("queue/scheduler")) ?? ""),
    queueRequests: await count("queue/nr_requests"),
    maxRequestBytes: maxKib === undefined ? undefined : maxKib * 1024,
    logicalBlockBytes: await count("queue/logical_block_size"),
    readAheadBytes: readAheadKib === undefined ? undefined : readAheadKib * 1024,
  };
  const known = Object.entries(facts).filter(([, value]) => value !== undefined);
  return {
    ...(Object.fromEntries(known) as Partial<BlockDevice>),
    name,
    isUsb: /\/usb\d/.test(driver),
    isVirtual: /\/virtio\d|\/vbd-|\/vmbus/i.test(driver) || /^(vd|xvd)[a-z]/.test(name),
  };
}

/** The disks under a block device: a partition's disk, and what RAID and device mapper put together. */
async function disksUnder(files: SystemFiles, device: string, level = 0): Promise<string[]> {
  const folder = await files.real(device);
  if (folder === undefined || level > MAX_STACK) return [];
  if ((await files.text(`${folder}/partition`)) !== undefined) {
    return disksUnder(files, folder.slice(0, folder.lastIndexOf("/")), level + 1);
  }
  const slaves = await files.list(`${folder}/slaves`);
  if (slaves.length === 0) return [folder];
  const found = await Promise.all(
    slaves.map((slave) => disksUnder(files, `${folder}/slaves/${slave}`, level + 1)),
  );
  return [...new Set(found.flat())];
}

/**
 * The mount and the disks behind a path.
 *
 * @param realPath absolute, without symbolic links
 * @param device its `stat().dev`; btrfs and overlayfs make numbers up, and then the mount's source is asked
 */
export async function storageOf(
  files: SystemFiles,
  realPath: string,
  device: number,
): Promise<Storage> {
  const mounts = parseMountinfo((await files.text("/proc/self/mountinfo")) ?? "");
  const mount = mountOf(mounts, realPath);
  let folders = await disksUnder(files, `/sys/dev/block/${majorMinor(device)}`);
  if (folders.length === 0 && mount?.source.startsWith("/dev/")) {
    const number = await files.deviceNumber(mount.source);
    if (number) folders = await disksUnder(files, `/sys/dev/block/${majorMinor(number)}`);
  }
  const disks = await Promise.all(folders.map((folder) => describeDisk(files, folder)));
  return { ...(mount ? { mount } : {}), disks };
}
