import type { Command } from "commander";
import { DEMO_MODEL, DEMO_QUESTIONS } from "../assets";
import { cacheFolder } from "../cache";
import { measureAtScale } from "../demo/at-scale";
import { DEMO_POLICIES, runPolicy, type PolicyRun } from "../demo/policy-run";
import { describeRuns, describeScale, INTRODUCTION } from "../demo/text";
import { profileOf } from "../device-profile";
import { flashImageOf } from "../model-source";
import { loadPrompts } from "../prompts";
import { formatBytes } from "../terminal/format";
import { withProgress } from "../terminal/progress";
import { runVerb } from "./run-verb";

export function registerDemo(program: Command): void {
  program
    .command("demo")
    .description(
      "Ask the bundled model about bundled pictures, four ways, and show what the reads cost.",
    )
    .option("--json", "print the tables as JSON")
    .action((options: { json?: boolean }) =>
      runVerb(options, async (output, signal) => {
        const questions = await loadPrompts(DEMO_QUESTIONS);
        output.line(INTRODUCTION.trim());
        const probeFolder = await cacheFolder("probe");
        const { profile } = await profileOf(probeFolder, signal);
        output.line(
          `\nThis disk (${profile.name}): ${formatBytes(profile.saturationBytes)} per read for 99 % of its peak throughput.`,
        );
        const imageDir = await flashImageOf(DEMO_MODEL, signal);
        const runs: PolicyRun[] = [];
        for (const policy of DEMO_POLICIES) {
          output.line(`\n${policy}:`);
          runs.push(await runPolicy(policy, imageDir, questions, profile, output, signal));
        }
        output.line(`\n${describeRuns(runs)}`);
        const atScale = await withProgress("Reading one layer of a 7B model", (report) =>
          measureAtScale(probeFolder, profile, report, signal),
        );
        output.line(describeScale(atScale));
        const directIo = atScale.directIo && runs.every((run) => run.directIo);
        output.result({ directIo, profile: profile.name, runs, atScale });
      }),
    );
}
