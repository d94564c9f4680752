import { readFileSync } from "node:fs";
import { Command } from "commander";
import { registerConvert } from "./verbs/convert";
import { registerDemo } from "./verbs/demo";
import { registerLogits } from "./verbs/logits";
import { registerProfile } from "./verbs/profile";
import { registerRun } from "./verbs/run";

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

for (const register of [
  registerDemo,
  registerRun,
  registerLogits,
  registerConvert,
  registerProfile,
]) {
  register(program);
}

await program.parseAsync();
