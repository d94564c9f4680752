import { readdir, readFile, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";

/** What sysfs tells about one disk; anything may be missing, in sandboxes all of it. */
export interface BlockDevice {
  readonly model?: string;
  readonly firmware?: string;
  readonly serial?: string;
  readonly wwid?: string;
  /** `16.0 GT/s PCIe x4` */
  readonly link?: string;
  /** What the link carries at most. */
  readonly linkBytesPerSecond?: number;
  readonly scheduler?: string;
  readonly queueRequests?: number;
  readonly hardwareQueues?: number;
  /** The longest request that the kernel hands to the device. */
  readonly maxRequestBytes?: number;
  readonly logicalBlockBytes?: number;
  readonly noMerges?: number;
  readonly completionAffinity?: number;
  readonly rotational?: boolean;
}

/** Device mapper and RAID stack a few levels; deeper than this is a loop. */
const MAX_STACK = 8;

export async function readFact(path: string): Promise<string | undefined> {
  try {
    const line = (await readFile(path, "utf8")).trim();
    return line === "" ? undefined : line;
  } catch {
    // Virtual devices and sandboxes show less of sysfs: a missing fact is no failure.
    return undefined;
  }
}

/**
 * The disks behind a device number: several under RAID or device mapper, none without sysfs.
 *
 * @param sysfs `/sys`; tests have a tree of their own.
 */
export async function disksBehind(majorMinor: string, sysfs = "/sys"): Promise<BlockDevice[]> {
  const folder = await realpath(join(sysfs, "dev/block", majorMinor)).catch(() => undefined);
  return folder === undefined ? [] : disksUnder(folder, MAX_STACK);
}

async function disksUnder(folder: string, depth: number): Promise<BlockDevice[]> {
  const slaves = depth > 0 ? await readdir(join(folder, "slaves")).catch(() => []) : [];
  const parts: BlockDevice[] = [];
  for (const slave of slaves.sort()) {
    const below = await realpath(join(folder, "slaves", slave)).catch(() => undefined);
    if (below !== undefined) parts.push(...(await disksUnder(below, depth - 1)));
  }
  if (parts.length > 0) return parts;
  // A partition's parent directory is its disk.
  const isPartition = (await readFact(join(folder, "partition"))) !== undefined;
  return [await readDisk(isPartition ? dirname(folder) : folder)];
}

async function readDisk(folder: string): Promise<BlockDevice> {
  const first = async (...names: string[]): Promise<string | undefined> => {
    for (const name of names) {
      const found = await readFact(join(folder, name));
      if (found !== undefined) return found;
    }
    return undefined;
  };
  const number = async (name: string): Promise<number | undefined> => {
    const text = await first(name);
    return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
  };
  const sectorsKib = await number("queue/max_sectors_kb");
  const rotational = await number("queue/rotational");
  const queues = await readdir(join(folder, "mq")).catch(() => undefined);
  return withoutUndefined({
    model: await first("device/model"),
    firmware: await first("device/firmware_rev", "device/rev"),
    serial: await first("device/serial", "serial"),
    wwid: await first("wwid", "device/wwid"),
    ...(await linkOf(folder)),
    scheduler: activeScheduler(await first("queue/scheduler")),
    queueRequests: await number("queue/nr_requests"),
    hardwareQueues: queues?.length,
    maxRequestBytes: sectorsKib === undefined ? undefined : sectorsKib * 1024,
    logicalBlockBytes: await number("queue/logical_block_size"),
    noMerges: await number("queue/nomerges"),
    completionAffinity: await number("queue/rq_affinity"),
    rotational: rotational === undefined ? undefined : rotational !== 0,
  });
}

/** The one in brackets: `none [mq-deadline] kyber`. */
function activeScheduler(text: string | undefined): string | undefined {
  return /\[([^\]]+)\]/.exec(text ?? "")?.[1] ?? text;
}

/** The PCI link of the nearest device above `folder` that has one. */
async function linkOf(folder: string): Promise<{ link?: string; linkBytesPerSecond?: number }> {
  for (let at = folder; at !== dirname(at); at = dirname(at)) {
    const speed = await readFact(join(at, "current_link_speed"));
    const width = await readFact(join(at, "current_link_width"));
    if (speed === undefined || width === undefined) continue;
    const linkBytesPerSecond = pciBytesPerSecond(speed, width);
    // Bridges without a link say "Unknown".
    if (linkBytesPerSecond === undefined) return {};
    return { link: `${speed} x${width}`, linkBytesPerSecond };
  }
  return {};
}

/** Up to 5 GT/s a byte takes ten bits on the wire (8b/10b), above that 128 of 130 bits are data. */
export function pciBytesPerSecond(speed: string, width: string): number | undefined {
  const gigatransfers = Number(/^(\d+(?:\.\d+)?)\s*GT\/s/.exec(speed)?.[1]);
  const lanes = Number(width);
  if (!(gigatransfers > 0 && lanes > 0 && lanes <= 32)) return undefined;
  const coding = gigatransfers <= 5 ? 8 / 10 : 128 / 130;
  return (gigatransfers * 1e9 * lanes * coding) / 8;
}

export function withoutUndefined<T extends object>(facts: {
  [K in keyof T]: T[K] | undefined;
}): Partial<T> {
  return Object.fromEntries(
    Object.entries(facts).filter(([, value]) => value !== undefined),
  ) as Partial<T>;
}
