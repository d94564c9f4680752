import { readdir, readFile, realpath, stat } from "node:fs/promises";
import path from "node:path";

/** `/proc` and `/sys` as this machine shows them, or a copy of them under another root. Whatever is missing is `undefined`. */
export interface SystemFiles {
  text(file: string): Promise<string | undefined>;
  /** Names in a folder; empty when there is none. */
  list(folder: string): Promise<string[]>;
  /** The path without symbolic links. */
  real(file: string): Promise<string | undefined>;
  /** The device number of a device node, as the kernel gives it. */
  deviceNumber(file: string): Promise<number | undefined>;
}

/** A missing or forbidden file is a missing fact, never an error: containers and boards hide much of sysfs. */
const orUndefined = <T>(promise: Promise<T>): Promise<T | undefined> =>
  promise.catch(() => undefined);

export function systemFiles(root = "/"): SystemFiles {
  const at = (file: string): string => path.join(root, file);
  return {
    async text(file) {
      const text = (await orUndefined(readFile(at(file), "utf8")))?.trim();
      return text === "" ? undefined : text;
    },
    async list(folder) {
      return (await orUndefined(readdir(at(folder)))) ?? [];
    },
    async real(file) {
      const found = await orUndefined(realpath(at(file)));
      return found === undefined ? undefined : path.join("/", path.relative(root, found));
    },
    async deviceNumber(file) {
      return (await orUndefined(stat(at(file))))?.rdev;
    },
  };
}
