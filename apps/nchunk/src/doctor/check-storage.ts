import { formatBytes } from "../terminal/format";
import { pciBytesPerSecond, type BlockDevice, type PciLink, type Storage } from "./block-device";
import { ok, warn, type Finding } from "./finding";

const DEVICE = { id: "device", title: "Disk" };
const LINK = { id: "link", title: "Link" };
const QUEUE = { id: "queue", title: "Queue" };
const FILE_SYSTEM = { id: "file-system", title: "File system" };

const IN_MEMORY = new Set(["tmpfs", "ramfs", "devtmpfs"]);
const REMOTE = /^(nfs\d?|cifs|smb3?|9p|virtiofs|ceph|glusterfs|fuse\.(sshfs|s3fs|rclone))$/;

const gigabytes = (bytesPerSecond: number): string => `${(bytesPerSecond / 1e9).toFixed(1)} GB/s`;

/** The file system of the folder and what it means for reading. */
export function checkFileSystem({ mount }: Storage): Finding {
  if (!mount) return ok(FILE_SYSTEM, "not shown by this system");
  const { fileSystem, superOptions, options, mountPoint } = mount;
  const value = `${fileSystem} on ${mountPoint} (${options})`;
  if (IN_MEMORY.has(fileSystem)) {
    return warn(
      FILE_SYSTEM,
      value,
      "it lies in memory: weights kept here take the memory that they should spare",
      "Choose a folder on a disk (NCHUNK_CACHE_DIR).",
    );
  }
  if (REMOTE.test(fileSystem)) {
    return warn(
      FILE_SYSTEM,
      value,
      "every chunk crosses a network or another machine's file system",
      "Keep models on a local disk (NCHUNK_CACHE_DIR).",
    );
  }
  if (/(^|,)compress/.test(superOptions)) {
    return warn(
      FILE_SYSTEM,
      `${value}, compressed`,
      "compressed files are read in whole extents through the page cache, direct I/O or not",
      "Turn compression off for the cache folder before it is filled (on btrfs: `chattr +m`).",
    );
  }
  return ok(FILE_SYSTEM, value);
}

function describeLink({ gigatransfers, lanes }: PciLink): string {
  const most = gigabytes(pciBytesPerSecond(gigatransfers, lanes));
  return `PCIe ${gigatransfers} GT/s x${lanes}, at most ${most}`;
}

/** The disk's connection, where sysfs shows one. */
export function checkLink(disk: BlockDevice): Finding | undefined {
  if (disk.isUsb) {
    return warn(
      LINK,
      "USB",
      "few reads in flight and a slow link: scattered chunks suffer most",
      "Use a disk on PCIe if there is one.",
    );
  }
  const { link } = disk;
  if (!link) return undefined;
  const { gigatransfers, lanes, maxGigatransfers = gigatransfers, maxLanes = lanes } = link;
  const now = pciBytesPerSecond(gigatransfers, lanes);
  const best = pciBytesPerSecond(maxGigatransfers, maxLanes);
  if (best <= now) return ok(LINK, describeLink(link));
  return warn(
    LINK,
    `${describeLink(link)}; the disk can do ${maxGigatransfers} GT/s x${maxLanes}`,
    `large reads reach at most ${gigabytes(now)} instead of ${gigabytes(best)} (rate and coding of the PCIe generations, not a measurement)`,
    "Use a slot of the disk's generation and width; a board's power saving can lower the link too.",
  );
}

/** What the disk is. */
export function checkDevice(disk: BlockDevice): Finding {
  const named = [disk.model, disk.firmware && `firmware ${disk.firmware}`].filter(Boolean);
  const what = named.length > 0 ? named.join(", ") : "model not shown";
  const value = `${disk.name}: ${what}${disk.isVirtual ? " (a virtual disk)" : ""}`;
  if (disk.isRotational !== true) return ok(DEVICE, value);
  if (disk.isVirtual) {
    return ok(DEVICE, `${value}; the kernel calls it rotational, as it does most virtual disks`);
  }
  return warn(
    DEVICE,
    `${value}, a spinning disk`,
    "every chunk waits for the head and the platter, milliseconds instead of a fraction of one (typical of data sheets)",
    "Keep models on flash: NVMe, SATA SSD, UFS or eMMC.",
  );
}

/** How the kernel queues requests to the disk. */
export function checkQueue(disk: BlockDevice): Finding | undefined {
  const { scheduler, queueRequests, maxRequestBytes, logicalBlockBytes, readAheadBytes } = disk;
  const parts = [
    scheduler && `scheduler ${scheduler}`,
    queueRequests && `${queueRequests} requests`,
    maxRequestBytes && `up to ${formatBytes(maxRequestBytes)} each`,
    logicalBlockBytes && `blocks of ${formatBytes(logicalBlockBytes)}`,
    readAheadBytes !== undefined && `read-ahead ${formatBytes(readAheadBytes)}`,
  ].filter(Boolean);
  if (parts.length === 0) return undefined;
  const value = parts.join(", ");
  if (scheduler !== "bfq" && scheduler !== "cfq") return ok(QUEUE, value);
  return warn(
    QUEUE,
    value,
    `${scheduler} sorts and delays requests for the sake of spinning disks; with many small reads that takes processor time`,
    `As root: \`echo none > /sys/block/${disk.name}/queue/scheduler\`.`,
  );
}

/** File system, disks, links and queues behind a folder. */
export function checkStorage(storage: Storage): Finding[] {
  const findings = [checkFileSystem(storage)];
  if (storage.disks.length === 0) {
    const source = storage.mount?.source;
    const named = source && source !== "none" ? ` (mounted from ${source})` : "";
    findings.push(ok(DEVICE, `no disk is shown behind this folder${named}`));
  }
  const several = storage.disks.length > 1;
  for (const disk of storage.disks) {
    for (const finding of [checkDevice(disk), checkLink(disk), checkQueue(disk)]) {
      if (!finding) continue;
      findings.push(several ? { ...finding, id: `${finding.id}:${disk.name}` } : finding);
    }
  }
  return findings;
}
