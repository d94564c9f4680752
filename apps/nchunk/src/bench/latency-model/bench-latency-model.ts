import { FlashReader } from "@neuron-chunking/flash-reader";
import { LatencyTable, type DeviceProfile } from "@neuron-chunking/latency-model";
import { median } from "../../statistics";
import { withProgress } from "../../terminal/progress";
import { ensureBenchFile } from "../bench-file";
import type { ModelEffort } from "./effort";
import { evaluateModels, noiseOfRepeats, type Evaluation } from "./evaluate";
import { drawMasks } from "./masks";
import { measureMasks, measureUnloaded } from "./measure-masks";

export interface ModelReport extends Evaluation {
  readonly bench: "latency-model";
  readonly effort: string;
  readonly profile: { readonly name: string };
  readonly reader: { readonly tier: string; readonly tuning: unknown };
  readonly masks: number;
  readonly rounds: number;
  /**
   * How far repeats of one mask deviate from their median: mean share, of the median mask. No model can be expected to
   * have a much smaller MAPE than this.
   */
  readonly noise: number;
  readonly verifiedRanges: number;
  readonly elapsedMs: number;
}

/** Reads random and selected masks and judges the latency models by the half that they were not fitted on. */
export async function benchLatencyModel(options: {
  folder: string;
  effort: ModelEffort;
  profile: DeviceProfile;
  signal: AbortSignal;
}): Promise<ModelReport> {
  const { folder, effort, profile, signal } = options;
  const startedMs = performance.now();
  const file = await ensureBenchFile(folder, effort.fileBytes, signal);
  const remainingMs = (): number => startedMs + effort.budgetMs - performance.now();
  const tuning = profile.reader?.tuning;
  const reader = await FlashReader.open(file.path, tuning ? { tuning } : {});
  try {
    return await withProgress("Measuring masks", async (report) => {
      const table = new LatencyTable(profile);
      const masks = drawMasks(effort, table);
      const measuring = { effort, report, signal, remainingMs };
      const unloaded = await measureUnloaded(reader, measuring);
      const { samplesNs, verifiedRanges } = await measureMasks(reader, masks, measuring);
      const measured = masks.map((mask, i) => ({ ...mask, measuredNs: median(samplesNs[i]) }));
      const { readThroughBytes, maxRequestBytes } = reader.tuning;
      const fixedParts = { unloaded, readThroughBytes, maxRequestBytes };
      return {
        bench: "latency-model" as const,
        effort: effort.name,
        profile: { name: profile.name },
        reader: { tier: reader.backend.tier, tuning: reader.tuning },
        masks: masks.length,
        rounds: samplesNs[0].length,
        noise: noiseOfRepeats(samplesNs),
        ...evaluateModels(measured, table, fixedParts, profile.batchModel),
        verifiedRanges,
        elapsedMs: performance.now() - startedMs,
      };
    });
  } finally {
    await reader.close();
  }
}
