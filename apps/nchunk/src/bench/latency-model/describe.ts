import type { FitQuality } from "@neuron-chunking/latency-model";
import { formatPercent, formatTable } from "../../terminal/format";
import type { ModelReport } from "./bench-latency-model";
import type { Qualities } from "./evaluate";

const TITLES: Record<keyof Qualities, string> = {
  sum: "sum of T[s], scaled",
  sumUncalibrated: "sum of T[s], as it is",
  batch: "batch model, fitted now",
  profile: "batch model of the profile",
};

const cell = ({ r2, mape }: FitQuality): string => `${r2.toFixed(3)} / ${formatPercent(mape)}`;

/** The report for people. */
export function describeLatencyModel(report: ModelReport): string {
  const groups: { title: string; qualities: Qualities }[] = [
    { title: "all", qualities: report.models },
    ...report.byKind.map((one) => ({ title: one.kind, qualities: one })),
    ...report.byRowBytes.map((one) => ({ title: `rows of ${one.rowBytes} B`, qualities: one })),
  ];
  const names = (Object.keys(TITLES) as (keyof Qualities)[]).filter((name) => report.models[name]);
  const rows = names.map((name) => [
    TITLES[name],
    ...groups.map(({ qualities }) => {
      const quality = qualities[name];
      return quality ? cell(quality) : "-";
    }),
  ]);
  const {
    lanes,
    fixedNs,
    sumWeight,
    laneWeight,
    perRequestNs,
    stragglerNs = 0,
  } = report.batchParameters;
  return [
    `${report.masks} masks on ${report.profile.name} (${report.reader.tier}), ${report.rounds} rounds in shuffled order; ` +
      `fitted on ${report.fitted}, judged by the other ${report.heldOut}.`,
    "R² (1 is perfect) / mean absolute error:",
    formatTable(["model", ...groups.map(({ title }) => title)], rows),
    `Noise: repeats of one mask deviate by ${formatPercent(report.noise)} from their median; no model can be much better than that.`,
    `The plain sum is scaled by ${report.sumBias.toFixed(3)}. Batch model: ${lanes} lanes, ${(fixedNs / 1e3).toFixed(1)} µs fixed, ` +
      `${(perRequestNs / 1e3).toFixed(2)} µs a request, ${(stragglerNs / 1e3).toFixed(1)} µs for stragglers, sum x ${sumWeight.toFixed(3)}, busiest lane x ${laneWeight.toFixed(3)}.`,
    `Checked against the file's known content: ${report.verifiedRanges} ranges, all right.`,
  ].join("\n");
}
