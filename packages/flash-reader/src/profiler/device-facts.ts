import { readFile, stat } from "node:fs/promises";
import { release } from "node:os";
import type { ProfileDevice } from "@neuron-chunking/latency-model";

async function readLine(path: string): Promise<string | undefined> {
  try {
    const line = (await readFile(path, "utf8")).trim();
    return line === "" ? undefined : line;
  } catch {
    // Virtual devices and sandboxes show less of sysfs: a missing fact is no failure.
    return undefined;
  }
}

/** Splits a Linux device number into major and minor, as glibc does. */
function majorMinor(device: number): string {
  const number = BigInt(device);
  const major = ((number >> 8n) & 0xfffn) | ((number >> 32n) & ~0xfffn);
  const minor = (number & 0xffn) | ((number >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

/** File system and options of the mount with this device number, from /proc/self/mountinfo. */
async function mountOf(device: string): Promise<{ fileSystem?: string; mountOptions?: string }> {
  const text = await readLine("/proc/self/mountinfo");
  for (const line of text?.split("\n") ?? []) {
    const fields = line.split(" ");
    const separator = fields.indexOf("-");
    if (fields[2] !== device || separator < 0) continue;
    return { fileSystem: fields[separator + 1], mountOptions: fields[5] };
  }
  return {};
}

/** What can be read about the storage behind `path` without privileges. */
export async function deviceFacts(path: string): Promise<ProfileDevice> {
  const device = majorMinor((await stat(path)).dev);
  const base = `/sys/dev/block/${device}`;
  const first = async (...names: string[]): Promise<string | undefined> => {
    for (const name of names) {
      const line = await readLine(`${base}/${name}`);
      if (line !== undefined) return line;
    }
    return undefined;
  };
  // A partition's parent directory is its disk.
  const model = await first("device/model", "../device/model");
  const firmware = await first("device/firmware_rev", "../device/firmware_rev");
  return {
    ...(model !== undefined && { model }),
    ...(firmware !== undefined && { firmware }),
    ...(await mountOf(device)),
    kernel: release(),
  };
}
