/** Loaded before a program under test: leaves the process's peak resident set, in bytes, in the file named by NCHUNK_PEAK_FILE. */
import { readFileSync, writeFileSync } from "node:fs";

process.on("exit", () => {
  const file = process.env["NCHUNK_PEAK_FILE"];
  const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"));
  if (file !== undefined && match !== null) writeFileSync(file, String(Number(match[1]) * 1024));
});
