import * as Plot from "@observablehq/plot";
import type { DeviceProfile, ProfileQueueSweep } from "@neuron-chunking/latency-model";
import { formatBytes } from "../terminal/format";
import {
  byteScale,
  domainOf,
  drawSvg,
  formatRateTick,
  formatTimeTick,
  logScale,
  SERIES_COLORS,
  seriesColors,
  seriesSymbols,
  SOFT,
} from "../html-page/chart";
import { curvesOf, samplePoints, throughputBytesPerSecond, type SamplePoint } from "./curves";

/** As FLASH_IO.md P2 has them, in percent. */
const FLAGGED_PERCENT = 3;
const REJECTED_PERCENT = 20;

/** Small words over a chart, readable over anything drawn. */
const NOTE = { fill: "currentColor", stroke: "var(--card)", strokeWidth: 4, fontSize: 11 };

/** Above this, a percentage says less than a factor. */
const MOST_RESIDUAL_PERCENT = 60;

/** Many samples lie over each other: thick spots show where most are. */
const SAMPLE_DOT = { r: 3, fill: SERIES_COLORS[1], fillOpacity: 0.5 };

interface CurvePoint {
  readonly name: string;
  readonly sizeBytes: number;
  readonly latencyNs: number;
  readonly bytesPerSecond: number;
}

const points = (profile: DeviceProfile): CurvePoint[] =>
  curvesOf(profile).flatMap(({ name, table }) =>
    table.sizesBytes.map((sizeBytes, i) => ({
      name,
      sizeBytes,
      latencyNs: table.latencyNs[i],
      bytesPerSecond: throughputBytesPerSecond(sizeBytes, table.latencyNs[i]),
    })),
  );

/** Lines by name, each with a symbol of its own. */
function namedLines<T>(
  data: readonly T[],
  x: keyof T & string,
  y: keyof T & string,
  name: keyof T & string,
) {
  return [
    Plot.lineY(data as T[], { x, y, stroke: name, strokeWidth: 2 }),
    Plot.dot(data as T[], { x, y, fill: name, symbol: name, r: 4 }),
  ];
}

function curveChart(
  profile: DeviceProfile,
  title: string,
  y: "latencyNs" | "bytesPerSecond",
  label: string,
  format: (value: number) => string,
): string {
  const data = points(profile);
  const names = curvesOf(profile).map(({ name }) => name);
  return drawSvg(title, {
    x: byteScale(data.map(({ sizeBytes }) => sizeBytes)),
    y: logScale(
      data.map((point) => point[y]),
      label,
      format,
    ),
    color: seriesColors(names),
    symbol: seriesSymbols(names),
    marks: [
      Plot.ruleX([profile.saturationBytes], { stroke: SOFT, strokeDasharray: "4 4" }),
      Plot.text([profile.saturationBytes], {
        x: (size: number) => size,
        frameAnchor: "top",
        dy: -16,
        text: (size: number) => `saturation, ${formatBytes(size)}`,
        fill: SOFT,
      }),
      ...namedLines(data, "sizeBytes", y, "name"),
    ],
  });
}

export const throughputChart = (profile: DeviceProfile): string =>
  curveChart(profile, "Throughput over read size", "bytesPerSecond", "throughput", formatRateTick);

export const latencyChart = (profile: DeviceProfile): string =>
  curveChart(profile, "Time per read over read size", "latencyNs", "time per read", formatTimeTick);

export function fitChart(profile: DeviceProfile): string | undefined {
  const samples = samplePoints(profile);
  if (samples.length === 0) return undefined;
  const fit = profile.table.sizesBytes.map((sizeBytes, i) => ({
    sizeBytes,
    latencyNs: profile.table.latencyNs[i],
  }));
  const all = [...fit, ...samples];
  return drawSvg("The fitted table against the raw samples", {
    x: byteScale(all.map(({ sizeBytes }) => sizeBytes)),
    y: logScale(
      all.map(({ latencyNs }) => latencyNs),
      "time per read",
      formatTimeTick,
    ),
    marks: [
      Plot.lineY(fit, {
        x: "sizeBytes",
        y: "latencyNs",
        stroke: SERIES_COLORS[0],
        strokeWidth: 2,
      }),
      Plot.dot(samples, { ...SAMPLE_DOT, x: "sizeBytes", y: "latencyNs" }),
    ],
  });
}

/** Percent while samples are near the fit; a logarithmic axis of factors once some are far away. */
function residualScale(samples: readonly SamplePoint[]): Plot.ScaleOptions {
  const residuals = samples.map(({ residual }) => residual);
  if (Math.max(...residuals) <= MOST_RESIDUAL_PERCENT / 100) {
    return {
      label: "sample above or below the fit, %",
      labelArrow: "none",
      grid: true,
      nice: true,
      transform: (factor: number) => (factor - 1) * 100,
      tickFormat: (percent: number) => (percent > 0 ? `+${percent}` : String(percent)),
    };
  }
  const factors = residuals.map((residual) => residual + 1);
  return logScale(
    [...factors, 1],
    "sample as a multiple of the fit",
    (factor) => `×${Number(factor.toPrecision(3))}`,
  );
}

export function residualChart(profile: DeviceProfile): string | undefined {
  const samples = samplePoints(profile);
  if (samples.length === 0) return undefined;
  return drawSvg("Raw samples relative to the fit", {
    x: byteScale(samples.map(({ sizeBytes }) => sizeBytes)),
    y: residualScale(samples),
    marks: [
      Plot.ruleY([1], { stroke: SERIES_COLORS[0], strokeWidth: 2 }),
      Plot.dot(samples, {
        x: "sizeBytes",
        y: ({ residual }: SamplePoint) => residual + 1,
        ...SAMPLE_DOT,
      }),
    ],
  });
}

export function roundsChart({ rounds }: DeviceProfile): string | undefined {
  if (!rounds || rounds.length === 0) return undefined;
  const states = ["kept", "flagged", "rejected"];
  const data = rounds.map(({ deviation, flagged, rejected }, i) => ({
    round: i + 1,
    percent: deviation * 100,
    state: rejected ? "rejected" : flagged ? "flagged" : "kept",
  }));
  const most = Math.max(FLAGGED_PERCENT * 1.5, ...data.map(({ percent }) => percent));
  const limits = [
    { percent: FLAGGED_PERCENT, text: "flagged above" },
    { percent: REJECTED_PERCENT, text: "rejected above" },
  ].filter(({ percent }) => percent <= most);
  return drawSvg("Deviation of each round", {
    x: {
      label: "round",
      labelArrow: "none",
      domain: data.map(({ round }) => round),
      type: "band",
      ticks: data
        .filter(({ round }) => round === 1 || round % Math.ceil(data.length / 20) === 0)
        .map(({ round }) => round),
    },
    y: {
      label: "deviation from the other rounds, %",
      labelArrow: "none",
      grid: true,
      domain: [0, most * 1.05],
    },
    color: { type: "ordinal", domain: states, range: [0, 5, 1].map((i) => SERIES_COLORS[i]) },
    marks: [
      Plot.barY(data, { x: "round", y: "percent", fill: "state" }),
      Plot.ruleY(limits, { y: "percent", stroke: SOFT, strokeDasharray: "4 4" }),
      Plot.text(limits, {
        y: "percent",
        text: ({ percent, text }: { percent: number; text: string }) => `${text} ${percent} %`,
        frameAnchor: "right",
        textAnchor: "end",
        dx: -4,
        dy: -8,
        ...NOTE,
      }),
      Plot.text(
        data.filter(({ state }) => state !== "kept"),
        { x: "round", y: "percent", text: "state", dy: -8, fill: "currentColor", fontSize: 11 },
      ),
    ],
  });
}

interface SweepPoint {
  readonly backend: string;
  readonly size: string;
  readonly depth: number;
  readonly bytesPerSecond: number;
}

const sweepPoints = (queue: readonly ProfileQueueSweep[]): SweepPoint[] =>
  queue.flatMap(({ backend, sizeBytes, depths, latencyNs }) =>
    depths.map((depth, i) => ({
      backend,
      size: formatBytes(sizeBytes),
      depth,
      bytesPerSecond: throughputBytesPerSecond(sizeBytes, latencyNs[i]),
    })),
  );

/** The sizes that were swept, smallest first. */
export const sweepSizes = (queue: readonly ProfileQueueSweep[]): string[] => {
  const sizes = new Set(queue.map(({ sizeBytes }) => sizeBytes));
  return [...sizes].sort((a, b) => a - b).map(formatBytes);
};

interface ChosenDepth {
  readonly backend: string;
  readonly depth: number;
}

const chosenText = (chosen: ChosenDepth[], textAnchor: "start" | "end"): Plot.Markish =>
  Plot.text(chosen, {
    fx: "backend",
    x: "depth",
    text: ({ depth }: ChosenDepth) => `chosen: ${depth}`,
    frameAnchor: "bottom",
    textAnchor,
    dx: textAnchor === "start" ? 5 : -5,
    dy: -6,
    ...NOTE,
  });

export function depthChart({ queue, reader }: DeviceProfile): string | undefined {
  if (!queue || queue.length === 0) return undefined;
  const data = sweepPoints(queue);
  const sizes = sweepSizes(queue);
  const depths = data.map(({ depth }) => depth);
  const middle = Math.sqrt(Math.max(...depths));
  const tuning = reader?.tuning;
  const chosen = tuning
    ? [
        { backend: "io_uring", depth: tuning.queueDepth },
        { backend: "pool", depth: tuning.threads },
      ].filter(({ backend }) => queue.some((sweep) => sweep.backend === backend))
    : [];
  return drawSvg("Throughput over requests in flight", {
    height: 380,
    marginTop: 44,
    fx: { label: null, padding: 0.22 },
    x: {
      type: "log",
      base: 2,
      domain: domainOf(depths),
      ticks: [...new Set(depths)].filter((depth) => Number.isInteger(Math.log2(depth) / 2)),
      tickFormat: "d",
      grid: true,
      label: "requests in flight",
      labelAnchor: "center",
      labelArrow: "none",
    },
    y: logScale(
      data.map(({ bytesPerSecond }) => bytesPerSecond),
      "throughput",
      formatRateTick,
    ),
    color: seriesColors(sizes),
    symbol: seriesSymbols(sizes),
    marks: [
      Plot.ruleX(chosen, { fx: "backend", x: "depth", stroke: SOFT, strokeDasharray: "4 4" }),
      // Beside the rule, on the side with more room.
      chosenText(
        chosen.filter(({ depth }) => depth < middle),
        "start",
      ),
      chosenText(
        chosen.filter(({ depth }) => depth >= middle),
        "end",
      ),
      Plot.lineY(data, {
        fx: "backend",
        x: "depth",
        y: "bytesPerSecond",
        stroke: "size",
        strokeWidth: 2,
      }),
      Plot.dot(data, {
        fx: "backend",
        x: "depth",
        y: "bytesPerSecond",
        fill: "size",
        symbol: "size",
        r: 4,
      }),
    ],
  });
}

export function validationChart({ validation }: DeviceProfile): string | undefined {
  if (!validation || validation.masks.length === 0) return undefined;
  const data = validation.masks.flatMap(({ kind, measuredNs, sumNs, batchNs }) => [
    { model: "sum of T[s]", kind, measuredNs, estimatedNs: sumNs },
    { model: "batch model", kind, measuredNs, estimatedNs: batchNs },
  ]);
  const times = data.flatMap(({ measuredNs, estimatedNs }) => [measuredNs, estimatedNs]);
  const axis = (label: string) => logScale(times, label, formatTimeTick);
  const [least, most] = [Math.min(...times), Math.max(...times)];
  return drawSvg("Estimated against measured time of masks", {
    height: 440,
    marginTop: 44,
    fx: { label: null, padding: 0.16, domain: ["sum of T[s]", "batch model"] },
    x: { ...axis("estimated"), labelAnchor: "center" },
    y: axis("measured"),
    color: seriesColors(["random", "selected"]),
    symbol: seriesSymbols(["random", "selected"]),
    marks: [
      Plot.line(
        [
          [least, least],
          [most, most],
        ],
        { stroke: SOFT, strokeDasharray: "4 4" },
      ),
      Plot.dot(data, {
        fx: "model",
        x: "estimatedNs",
        y: "measuredNs",
        fill: "kind",
        fillOpacity: 0.75,
        symbol: "kind",
        r: 4.5,
      }),
    ],
  });
}
