import { realpath, stat } from "node:fs/promises";
import { release } from "node:os";
import type { ProfileDevice, ProfileValue } from "@neuron-chunking/latency-model";
import { disksBehind, withoutUndefined } from "./block-device.js";
import type { BlockDevice } from "./block-device.js";
import { mountOf } from "./mount.js";

export interface DeviceFacts {
  /** What the storage is and how the kernel drives it; part of a profile and of its key. */
  readonly device: ProfileDevice;
  /** Serial number and WWID: part of the key, but not of a profile, which people show to each other. */
  readonly identity: string;
  /** What the links of all disks carry together at most, where sysfs says. */
  readonly linkBytesPerSecond?: number;
  /** The longest request that the kernel hands to the device. */
  readonly maxRequestBytes?: number;
}

/** What can be read about the storage behind `path` (which exists) without privileges. */
export async function deviceFacts(path: string): Promise<DeviceFacts> {
  const absolute = await realpath(path);
  const mount = await mountOf(absolute);
  const numbers = [
    mount?.device,
    await numberOf(mount?.source),
    majorMinor((await stat(absolute)).dev),
  ];
  let disks: BlockDevice[] = [];
  for (const number of numbers) {
    if (number !== undefined && disks.length === 0) disks = await disksBehind(number);
  }
  const { linkBytesPerSecond, maxRequestBytes, serial, wwid, ...common } = joined(disks);
  const device = withoutUndefined<Record<string, ProfileValue>>({
    ...common,
    maxRequestBytes,
    ...(disks.length > 1 && { disks: disks.length }),
    fileSystem: mount?.fileSystem,
    mountOptions: mount?.options,
    kernel: release(),
  }) as ProfileDevice;
  return {
    device,
    identity: `${serial ?? ""} ${wwid ?? ""}`.trim(),
    ...(linkBytesPerSecond !== undefined && { linkBytesPerSecond }),
    ...(maxRequestBytes !== undefined && { maxRequestBytes }),
  };
}

/** The device number of a special file; some file systems show a number of their own in mountinfo. */
async function numberOf(source: string | undefined): Promise<string | undefined> {
  if (source?.startsWith("/dev/") !== true) return undefined;
  const found = await stat(source).catch(() => undefined);
  return found?.isBlockDevice() === true ? majorMinor(found.rdev) : undefined;
}

/** Splits a Linux device number into major and minor, as glibc does. */
function majorMinor(device: number): string {
  const number = BigInt(device);
  const major = ((number >> 8n) & 0xfffn) | ((number >> 32n) & ~0xfffn);
  const minor = (number & 0xffn) | ((number >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

/** Several disks as one: names side by side, links added up, of limits the least. */
function joined(disks: readonly BlockDevice[]): BlockDevice {
  const texts = (key: keyof BlockDevice): string | undefined => {
    const found = disks.flatMap((disk) => (disk[key] === undefined ? [] : [String(disk[key])]));
    return found.length > 0 ? found.join(" + ") : undefined;
  };
  const least = (key: keyof BlockDevice): number | undefined => {
    const found = disks.flatMap((disk) => (disk[key] === undefined ? [] : [Number(disk[key])]));
    return found.length > 0 ? Math.min(...found) : undefined;
  };
  const hasLinks = disks.length > 0 && disks.every((disk) => disk.linkBytesPerSecond !== undefined);
  const linkBytesPerSecond = disks.reduce((sum, disk) => sum + (disk.linkBytesPerSecond ?? 0), 0);
  return withoutUndefined<Record<string, ProfileValue>>({
    model: texts("model"),
    firmware: texts("firmware"),
    serial: texts("serial"),
    wwid: texts("wwid"),
    link: texts("link"),
    linkBytesPerSecond: hasLinks ? linkBytesPerSecond : undefined,
    scheduler: texts("scheduler"),
    queueRequests: least("queueRequests"),
    hardwareQueues: least("hardwareQueues"),
    maxRequestBytes: least("maxRequestBytes"),
    logicalBlockBytes: least("logicalBlockBytes"),
    noMerges: least("noMerges"),
    completionAffinity: least("completionAffinity"),
    rotational: disks.length > 0 ? disks.some((disk) => disk.rotational === true) : undefined,
  });
}
