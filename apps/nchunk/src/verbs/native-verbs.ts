import type { Command } from "commander";
import { registerBench } from "./bench";
import { registerCalibrate } from "./calibrate";
import { registerConvert } from "./convert";
import { registerDemo } from "./demo";
import { registerLogits } from "./logits";
import { registerPlan } from "./plan";
import { registerProfile } from "./profile";
import { registerRun } from "./run";

/** The verbs that read or compute, in the order of the help text; loading them loads the native parts. */
export const NATIVE_VERBS: readonly ((program: Command) => void)[] = [
  registerDemo,
  registerRun,
  registerLogits,
  registerPlan,
  registerConvert,
  registerCalibrate,
  registerProfile,
  registerBench,
];
