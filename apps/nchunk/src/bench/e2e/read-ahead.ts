import { writeFileSync } from "node:fs";
import { access, constants, readFile, realpath, stat, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { majorMinor, storageOf } from "../../doctor/block-device";
import { systemFiles } from "../../doctor/system-files";
import { NchunkError } from "../../errors";

const KIB = 1024;
/** They end a process without more ado unless something listens; Ctrl-C is listened to already. */
const DEADLY_SIGNALS = ["SIGTERM", "SIGHUP"] as const;

/**
 * What the kernel reads ahead of a memory-mapped file on one device: much of how fast llama.cpp is when memory is short.
 * Linux's default is 128 KiB. A file keeps the setting that it was opened under.
 */
export class ReadAhead {
  private constructor(
    /** Where it can be read and set; undefined: only `shownBytes` is known. */
    private readonly file: string | undefined,
    private readonly shownBytes: number | undefined,
  ) {}

  /** Of the device that holds `folder`. @param sys `/sys`; another place for tests */
  static async of(folder: string, sys = "/sys"): Promise<ReadAhead> {
    const { dev } = await stat(folder);
    const device = majorMinor(dev);
    const block = await realpath(path.join(sys, "dev/block", device)).catch(() => undefined);
    const candidates = [path.join(sys, "class/bdi", device, "read_ahead_kb")];
    if (block !== undefined) {
      // A partition has its disk's.
      candidates.push(path.join(block, "queue/read_ahead_kb"));
      candidates.push(path.join(path.dirname(block), "queue/read_ahead_kb"));
    }
    for (const file of candidates) {
      if ((await kibibytes(file)) !== undefined) return new ReadAhead(file, undefined);
    }
    const { disks } = await storageOf(systemFiles(), await realpath(folder), dev);
    return new ReadAhead(undefined, disks[0]?.readAheadBytes);
  }

  /** The setting in force; null where the system does not tell. */
  async bytes(): Promise<number | null> {
    if (this.file === undefined) return this.shownBytes ?? null;
    const kib = await kibibytes(this.file);
    return kib === undefined ? null : kib * KIB;
  }

  /** @throws NchunkError `INVALID_ARGUMENT` where this process may not change it */
  async requireSettable(): Promise<void> {
    const why =
      this.file === undefined
        ? "the file system does not tell its device"
        : await access(this.file, constants.R_OK | constants.W_OK).then(
            () => undefined,
            (error: Error) => error.message,
          );
    if (why === undefined) return;
    throw new NchunkError(
      "INVALID_ARGUMENT",
      `What the kernel reads ahead cannot be changed here: ${why}. Run as root where /sys is writable, or leave out --peer-read-ahead.`,
    );
  }

  /**
   * Runs a task under another setting and puts the old one back, whatever becomes of the task or, short of SIGKILL, of
   * this process. Not for two tasks at once.
   *
   * @param bytes undefined: the setting stays
   */
  async during<T>(bytes: number | undefined, task: () => Promise<T>): Promise<T> {
    const { file } = this;
    if (bytes === undefined || file === undefined) return task();
    const before = await readFile(file, "utf8");
    const restore = (): void => writeFileSync(file, before.trim());
    const die = (signal: NodeJS.Signals): void => {
      // Ends in the listener of "exit".
      process.exit(128 + os.constants.signals[signal]);
    };
    process.on("exit", restore);
    for (const signal of DEADLY_SIGNALS) process.on(signal, die);
    try {
      await writeFile(file, String(Math.round(bytes / KIB)));
      return await task();
    } finally {
      restore();
      process.off("exit", restore);
      for (const signal of DEADLY_SIGNALS) process.off(signal, die);
    }
  }
}

async function kibibytes(file: string): Promise<number | undefined> {
  const text = await readFile(file, "utf8").catch(() => "");
  return /^\d+\s*$/.test(text) ? Number(text) : undefined;
}
