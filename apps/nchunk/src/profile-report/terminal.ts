import type { DeviceProfile, LatencyCurve } from "@neuron-chunking/latency-model";
import { plot } from "simple-ascii-chart";
import { formatBytes, formatNs, formatTable } from "../terminal/format";
import { latencyAt, throughputBytesPerSecond } from "./curves";
import { noiseInWords, saturationInWords, tuningInWords, validationInWords } from "./words";

const MOST_ROWS = 12;
const PLOT_ROWS = 12;
const DEFAULT_COLUMNS = 80;
/** Labels of the vertical axis and a margin. */
const AXIS_COLUMNS = 12;
const LEAST_PLOT_COLUMNS = 30;
const MOST_PLOT_COLUMNS = 84;
const Y_TICKS = 5;
const X_TICKS = 6;

const isPowerOfTwo = (value: number): boolean => Number.isInteger(Math.log2(value));

/** The powers of two among the sizes; without two of them, sizes evenly spread over the table. */
function shownSizes(sizesBytes: readonly number[]): number[] {
  const powers = sizesBytes.filter(isPowerOfTwo);
  const sizes = powers.length >= 2 ? powers : sizesBytes;
  const step = Math.max(1, Math.ceil(sizes.length / MOST_ROWS));
  return sizes.filter((_, i) => i % step === 0);
}

const megabytesPerSecond = (curve: LatencyCurve, sizeBytes: number): number =>
  throughputBytesPerSecond(sizeBytes, latencyAt(curve, sizeBytes)) / 1e6;

/** Time and throughput by size, and beside them the throughput of the backends that were not chosen. */
function describeTable(profile: DeviceProfile): string {
  const { table, reader } = profile;
  const others = (profile.backends ?? []).filter(({ name }) => name !== reader?.backend);
  const rows = shownSizes(table.sizesBytes).map((size) => [
    formatBytes(size),
    formatNs(latencyAt(table, size)),
    ...[table, ...others.map((other) => other.table)].map(
      (curve) => `${megabytesPerSecond(curve, size).toFixed(0)} MB/s`,
    ),
  ]);
  const head = ["read size", "time per read", "throughput"];
  return formatTable([...head, ...others.map(({ name }) => `by ${name}`)], rows);
}

/** The next of 1, 2, 2.5, 5 times a power of ten. */
function niceStep(step: number): number {
  const power = 10 ** Math.floor(Math.log10(step));
  return power * ([1, 2, 2.5, 5].find((nice) => nice * power >= step) ?? 10);
}

const byteTick = (bytes: number): string =>
  bytes >= 2 ** 20 ? `${bytes / 2 ** 20}M` : bytes >= 1024 ? `${bytes / 1024}K` : `${bytes}`;

/** Throughput over read size, as the reader will read. */
export function plotThroughput(
  { table, reader }: DeviceProfile,
  terminalColumns = DEFAULT_COLUMNS,
): string {
  const { sizesBytes } = table;
  if (sizesBytes.length < 2) return "";
  const width = Math.min(
    MOST_PLOT_COLUMNS,
    Math.max(LEAST_PLOT_COLUMNS, terminalColumns - AXIS_COLUMNS),
  );
  // One point for each column; the horizontal axis is the logarithm of the size.
  const [from, to] = [Math.log2(sizesBytes[0]), Math.log2(sizesBytes[sizesBytes.length - 1])];
  const line = Array.from({ length: width }, (_, i): [number, number] => {
    const x = from + ((to - from) * i) / (width - 1);
    return [x, megabytesPerSecond(table, 2 ** x)];
  });
  const most = Math.max(...line.map(([, y]) => y));
  const yStep = niceStep(most / Y_TICKS);
  const yTicks = Array.from({ length: Math.ceil(most / yStep) + 1 }, (_, i) => i * yStep);
  const xStep = Math.max(1, Math.ceil((to - from) / X_TICKS));
  const xTicks: number[] = [];
  for (let x = Math.ceil(from); x <= to; x += xStep) xTicks.push(x);
  const drawn = plot(line, {
    width,
    height: PLOT_ROWS,
    title: `Throughput (MB/s) over read size (bytes)${reader ? `, ${reader.backend}` : ""}`,
    yRange: [0, yTicks[yTicks.length - 1]],
    customXAxisTicks: xTicks,
    customYAxisTicks: yTicks,
    formatter: (value, { axis }) =>
      axis === "x" ? byteTick(2 ** value) : String(Number(value.toPrecision(6))),
  });
  return drawn
    .split("\n")
    .map((text) => text.trimEnd())
    .join("\n")
    .trim();
}

/** A profile for people: table, plot, and what it means in words. */
export function describeProfile(profile: DeviceProfile, terminalColumns?: number): string {
  const { device, reader } = profile;
  const facts = [device?.fileSystem, reader?.directIo === false ? "through the page cache" : ""];
  const words = [
    `Saturation: ${saturationInWords(profile)}`,
    `Reader:     ${tuningInWords(profile)}`,
    `Noise:      ${noiseInWords(profile)}`,
    `Validation: ${validationInWords(profile)}`,
  ];
  return [
    [profile.name, ...facts.filter(Boolean)].join(", "),
    describeTable(profile),
    plotThroughput(profile, terminalColumns),
    ...words,
  ]
    .filter((part) => part !== "")
    .join("\n");
}
