import { readFile } from "node:fs/promises";

export interface Mount {
  /** Major and minor number, `259:2`; of no disk for file systems that span several, or none. */
  readonly device: string;
  readonly fileSystem: string;
  /** What is mounted: `/dev/nvme0n1p2`, `tmpfs`. */
  readonly source: string;
  /** Sorted, those of the mount and of the file system, without any that name paths. */
  readonly options: string;
}

/** The mount that `path` (absolute, without symbolic links) lies on, from the text of /proc/self/mountinfo. */
export function findMount(mountinfo: string, path: string): Mount | undefined {
  let found: Mount | undefined;
  let longest = -1;
  for (const line of mountinfo.split("\n")) {
    const fields = line.split(" ");
    const separator = fields.indexOf("-", 6);
    if (separator < 0) continue;
    const point = unescape(fields[4]);
    const contains = path === point || path.startsWith(point.endsWith("/") ? point : `${point}/`);
    // Of two mounts on one point the later one hides the other.
    if (!contains || point.length < longest) continue;
    longest = point.length;
    const options = [fields[5], fields[separator + 3] ?? ""].flatMap((text) => text.split(","));
    found = {
      device: fields[2],
      fileSystem: fields[separator + 1],
      source: unescape(fields[separator + 2] ?? ""),
      options: [...new Set(options)]
        .filter((option) => option !== "" && !option.includes("/"))
        .sort()
        .join(","),
    };
  }
  return found;
}

export async function mountOf(path: string): Promise<Mount | undefined> {
  const text = await readFile("/proc/self/mountinfo", "utf8").catch(() => "");
  return findMount(text, path);
}

/** Blanks and backslashes are written as octal numbers. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(parseInt(octal, 8)),
  );
}
