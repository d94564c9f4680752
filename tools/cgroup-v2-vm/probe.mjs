/** Makes a memory control group as `nchunk bench e2e` does, and has processes in it that fit and that do not. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { createMemoryCgroup } from "../../apps/nchunk/src/bench/e2e/memory-cgroup.ts";

const MEBIBYTE = 2 ** 20;
const run = promisify(execFile);

const { group, reason } = await createMemoryCgroup();
if (group === undefined) {
  console.log(`  refused: ${reason}`);
} else {
  /** @param {string} name */
  const read = async (name) =>
    (await readFile(path.join(group.folder, name), "utf8").catch(() => "none")).trim();
  /**
   * Touches so much memory in the group, and tells how that ended.
   * @param {number} limit
   * @param {number} mebibytes
   */
  const touch = async (limit, mebibytes) => {
    await group.setLimit(limit * MEBIBYTE);
    const code = `const b = []; for (let i = 0; i < ${mebibytes}; i++) b.push(Buffer.alloc(2**20, 1));`;
    const enter = ["-c", 'echo $$ > "$0" && exec "$@"', group.procsFile];
    const how = await run("/bin/sh", [...enter, process.execPath, "-e", code]).then(
      () => "ended well",
      (error) => error.signal ?? `failed: ${error.stderr}`,
    );
    const ratio = ((await group.peakBytes()) ?? NaN) / limit / MEBIBYTE;
    const kills = await group.oomKills();
    const events = (await read("memory.events")).replace(/\n/g, ", ");
    console.log(
      `  limit ${limit} MiB, ${mebibytes} MiB touched: ${how}; peak/limit ${ratio.toFixed(3)}, kills ${kills}, ` +
        `swap.max ${await read("memory.swap.max")}; ${events}`,
    );
    return { how, kills, withinLimit: ratio <= 1 };
  };
  console.log(`  version ${group.version}, ${group.folder}`);
  try {
    const over = await touch(64, 256);
    const under = await touch(320, 128);
    const kept = over.how === "SIGKILL" && over.kills === 1 && over.withinLimit;
    const left = under.how === "ended well" && under.kills === 0 && under.withinLimit;
    console.log(kept && left ? "  limits hold" : "  limits do not hold");
  } finally {
    await group.remove();
  }
}
