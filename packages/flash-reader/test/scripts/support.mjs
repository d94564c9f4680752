// What the programs of this folder share. Arguments: the file, then options of FlashReader.open as JSON.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export const path = process.argv[2];
export const options = JSON.parse(process.argv[3] ?? "{}");

/** `count` ranges of `lengthBytes` spread over the first 7 MiB, unaligned. */
export function spread(count, lengthBytes) {
  const step = Math.floor((7 << 20) / count);
  return {
    offsetsBytes: Float64Array.from({ length: count }, (_, i) => 77 + i * step),
    lengthsBytes: new Float64Array(count).fill(lengthBytes),
    count,
  };
}

/** Whether every view of `result` shows the bytes of `file`. */
export function isRight(result, ranges, file) {
  for (let i = 0; i < ranges.count; i++) {
    const start = ranges.offsetsBytes[i];
    if (!file.subarray(start, start + ranges.lengthsBytes[i]).equals(result.view(i))) return false;
  }
  return true;
}

/** Threads and descriptors of this process that readers hold; event descriptors include Node's own. */
export function held() {
  const links = readdirSync("/proc/self/fd").map((fd) =>
    orNone(() => readlinkSync(`/proc/self/fd/${fd}`)),
  );
  const names = readdirSync("/proc/self/task").map((task) =>
    orNone(() => readFileSync(`/proc/self/task/${task}/comm`, "utf8").trim()),
  );
  const count = (list, wanted) => list.filter(wanted).length;
  return {
    threads: count(names, (name) => name === "flash-io" || name.startsWith("iou-")),
    files: count(links, (link) => link === path),
    rings: count(links, (link) => link.includes("io_uring")),
    events: count(links, (link) => link.includes("eventfd")),
  };
}

/** What is held once it is no more than `before`, or after ten seconds of trying `meanwhile`. */
export async function heldAtLast(before, meanwhile = () => undefined) {
  for (let i = 0; i < 1000; i++) {
    meanwhile();
    const now = held();
    if (Object.keys(now).every((key) => now[key] <= before[key])) return now;
    await sleep(10);
  }
  return held();
}

function orNone(look) {
  try {
    return look();
  } catch {
    // Gone between listing and looking.
    return "";
  }
}
