// `npm run demo`: set-up if needed, then the demonstration.
import { spawnSync } from "node:child_process";
import path from "node:path";
import { ROOT, exitOnSetupError, setUp } from "./setup.mjs";

await exitOnSetupError(() => setUp());
const cli = path.join(ROOT, "apps/nchunk/dist/cli.js");
const { status } = spawnSync(process.execPath, [cli, "demo", ...process.argv.slice(2)], {
  stdio: "inherit",
});
process.exit(status ?? 1);
