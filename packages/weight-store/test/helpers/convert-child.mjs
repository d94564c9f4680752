// Converts in a process of its own: to be killed in the middle, limited, or measured.
// Arguments: JSON of { checkpointDir, outputDir, killAt? } where killAt is a fraction of all bytes.
import { convertCheckpoint } from "../../dist/index.js";

const { killAt = Infinity, ...options } = JSON.parse(process.argv[2]);
try {
  await convertCheckpoint({
    ...options,
    onProgress({ bytesDone, bytesTotal }) {
      if (bytesDone >= killAt * bytesTotal) process.kill(process.pid, "SIGKILL");
    },
  });
  console.log(JSON.stringify({ maxRssKiB: process.resourceUsage().maxRSS }));
} catch (error) {
  console.log(JSON.stringify({ code: error.code, errno: error.errno, message: error.message }));
  process.exitCode = 1;
}
