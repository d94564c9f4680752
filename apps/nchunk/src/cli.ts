import { readFileSync } from "node:fs";
import { Command } from "commander";
import { NchunkError } from "./errors";
import { endWithReader, reportError } from "./terminal/output";
import { registerDoctor } from "./verbs/doctor";

const { version } = JSON.parse(
  readFileSync(new URL("../package.json", import.meta.url), "utf8"),
) as { version: string };

const program = new Command()
  .name("nchunk")
  .description(
    "Vision-language models on machines whose memory is too small for them: the weights stay on flash.",
  )
  .version(version)
  .showHelpAfterError("(run with --help for the options)");

/** Everything but `doctor` needs the native parts as soon as it is loaded. */
async function registerNativeVerbs(): Promise<void> {
  try {
    const { NATIVE_VERBS } = await import("./verbs/native-verbs");
    for (const register of NATIVE_VERBS) register(program);
  } catch (cause) {
    const message = `${(cause as Error).message} \`nchunk doctor\` tells what else is missing.`;
    const error = new NchunkError("ASSET_MISSING", message, { cause });
    reportError(error, process.argv.includes("--json"));
    process.exit(1);
  }
}

endWithReader();
// `doctor` must run where they cannot be loaded, to say so.
if (process.argv[2] !== "doctor") await registerNativeVerbs();
registerDoctor(program);

await program.parseAsync();
