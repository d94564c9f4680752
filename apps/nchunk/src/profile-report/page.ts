import type { DeviceProfile } from "@neuron-chunking/latency-model";
import {
  legendOf,
  renderChartSection,
  renderDocument,
  renderTable,
  type ChartSection,
} from "../html-page/document";
import { formatBytes, formatNs } from "../terminal/format";
import {
  depthChart,
  fitChart,
  latencyChart,
  residualChart,
  roundsChart,
  sweepSizes,
  throughputChart,
  validationChart,
} from "./charts";
import { curvesOf, throughputBytesPerSecond } from "./curves";
import { noiseInWords, saturationInWords, tuningInWords, validationInWords } from "./words";

function sections(profile: DeviceProfile): ChartSection[] {
  const backends = legendOf(curvesOf(profile).map(({ name }) => name));
  return [
    {
      id: "throughput",
      title: "Throughput over read size",
      text: saturationInWords(profile),
      legend: backends,
      svg: throughputChart(profile),
    },
    {
      id: "latency",
      title: "Time per read over read size",
      text: "T[s]: time for each read while the device is kept busy with reads of that size.",
      legend: backends,
      svg: latencyChart(profile),
    },
    {
      id: "fit",
      title: "The fit against the raw samples",
      text: "A larger read never costs less, and never more per byte; the line is the closest such table.",
      legend: [
        ["raw samples", 1, "●"],
        ["fit", 0, "━"],
      ],
      svg: fitChart(profile),
    },
    {
      id: "residuals",
      title: "Residuals",
      text: "How far each raw sample lies from the fit.",
      svg: residualChart(profile),
    },
    {
      id: "rounds",
      title: "Noise of each round",
      text: noiseInWords(profile),
      legend: [
        ["kept", 0],
        ["flagged", 5],
        ["rejected and repeated", 1],
      ],
      svg: roundsChart(profile),
    },
    {
      id: "depth",
      title: "Requests in flight",
      text: `Reader: ${tuningInWords(profile)}`,
      legend: legendOf(sweepSizes(profile.queue ?? [])),
      svg: depthChart(profile),
    },
    {
      id: "validation",
      title: "Masks held out of the fit",
      text: `${validationInWords(profile)} On the dashed line, estimate and measurement agree.`,
      legend: legendOf(["random rows", "rows chosen in chunks"]),
      svg: validationChart(profile),
    },
  ];
}

function facts(profile: DeviceProfile): string[][] {
  const { reader, device = {}, batchModel } = profile;
  const rows: [string, string | undefined][] = [
    ["measured", profile.createdAt],
    ["by", profile.source],
    ["origin", profile.origin],
    ["reads", reader && (reader.directIo ? "past the page cache" : "through the page cache")],
    ["alignment", reader && formatBytes(reader.alignmentBytes)],
    ["tuning", tuningInWords(profile)],
    ["noise", noiseInWords(profile)],
    ["validation", validationInWords(profile)],
    [
      "batch model",
      batchModel &&
        `${batchModel.lanes} lanes, ${formatNs(batchModel.fixedNs)} for each batch, ${formatNs(batchModel.perRequestNs)} more for each request`,
    ],
    ...Object.entries(device).map(([name, value]): [string, string | undefined] => [
      name.replace(/([a-z])([A-Z])/g, (_, a: string, b: string) => `${a} ${b.toLowerCase()}`),
      value === undefined ? undefined : String(value),
    ]),
    ["probe version", profile.probeVersion?.toString()],
    ["key", profile.key],
  ];
  return rows.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
}

function renderNumbers(profile: DeviceProfile): string {
  const { sizesBytes, latencyNs } = profile.table;
  const rows = sizesBytes.map((size, i) => [
    formatBytes(size),
    formatNs(latencyNs[i]),
    `${(throughputBytesPerSecond(size, latencyNs[i]) / 1e6).toFixed(0)} MB/s`,
  ]);
  const table = renderTable(["read size", "time per read", "throughput"], rows);
  return `<section id="numbers"><details><summary>The table in numbers</summary>${table}</details></section>`;
}

/**
 * A profile as one page that needs nothing else: no script, no request, light and dark. What the profile does not
 * hold is said to be not measured.
 */
export function renderProfilePage(profile: DeviceProfile): string {
  return renderDocument(`Device profile: ${profile.name}`, [
    ...sections(profile).map(renderChartSection),
    `<section id="device"><h2>Device and measurement</h2>${renderTable(["fact", "value"], facts(profile))}</section>`,
    renderNumbers(profile),
  ]);
}
