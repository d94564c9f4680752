import type { DeviceProfile } from "@neuron-chunking/latency-model";
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
import { SERIES_COLORS, SERIES_SIGNS } from "./chart";
import { curvesOf, throughputBytesPerSecond } from "./curves";
import { noiseInWords, saturationInWords, tuningInWords, validationInWords } from "./words";
import { PAGE_STYLE } from "./page-style";

const ESCAPES: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Names of devices come from the devices themselves: nothing in them may become markup. */
export const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => ESCAPES[character]);

/** What is told apart by colour, with the colour's number and the sign that is drawn. */
type LegendEntry = readonly [name: string, color: number, sign?: string];

/** Entries for series in the order of their colours. */
const legendOf = (names: readonly string[]): LegendEntry[] =>
  names.map((name, i) => {
    const color = i % SERIES_COLORS.length;
    return [name, color, SERIES_SIGNS[color]];
  });

interface Section {
  readonly id: string;
  readonly title: string;
  readonly text: string;
  readonly legend?: readonly LegendEntry[];
  readonly chart: (profile: DeviceProfile) => string | undefined;
}

function sections(profile: DeviceProfile): Section[] {
  const backends = legendOf(curvesOf(profile).map(({ name }) => name));
  return [
    {
      id: "throughput",
      title: "Throughput over read size",
      text: saturationInWords(profile),
      legend: backends,
      chart: throughputChart,
    },
    {
      id: "latency",
      title: "Time per read over read size",
      text: "T[s]: time for each read while the device is kept busy with reads of that size.",
      legend: backends,
      chart: latencyChart,
    },
    {
      id: "fit",
      title: "The fit against the raw samples",
      text: "A larger read never costs less, and never more per byte; the line is the closest such table.",
      legend: [
        ["raw samples", 1, "●"],
        ["fit", 0, "━"],
      ],
      chart: fitChart,
    },
    {
      id: "residuals",
      title: "Residuals",
      text: "How far each raw sample lies from the fit.",
      chart: residualChart,
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
      chart: roundsChart,
    },
    {
      id: "depth",
      title: "Requests in flight",
      text: `Reader: ${tuningInWords(profile)}`,
      legend: legendOf(sweepSizes(profile.queue ?? [])),
      chart: depthChart,
    },
    {
      id: "validation",
      title: "Masks held out of the fit",
      text: `${validationInWords(profile)} On the dashed line, estimate and measurement agree.`,
      legend: legendOf(["random rows", "rows chosen in chunks"]),
      chart: validationChart,
    },
  ];
}

function renderLegend(legend: Section["legend"]): string {
  if (!legend) return "";
  const items = legend.map(
    ([name, color, sign = "■"]) =>
      `<li><i style="color:${SERIES_COLORS[color]}">${sign}</i>${escapeHtml(name)}</li>`,
  );
  return `<ul class="legend">${items.join("")}</ul>`;
}

function renderSection(
  profile: DeviceProfile,
  { id, title, text, legend, chart }: Section,
): string {
  const svg = chart(profile);
  const body =
    svg === undefined
      ? `<p class="missing">not measured</p>`
      : `<p>${escapeHtml(text)}</p>${renderLegend(legend)}${svg}`;
  return `<section class="chart" id="${id}"><h2>${escapeHtml(title)}</h2>${body}</section>`;
}

function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, row: readonly string[]): string =>
    `<tr>${row.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join("")}</tr>`;
  const body = rows.map((row) => cells("td", row)).join("");
  return `<table><thead>${cells("th", head)}</thead><tbody>${body}</tbody></table>`;
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
  const title = escapeHtml(`Device profile: ${profile.name}`);
  return [
    "<!doctype html>",
    `<html lang="en"><head><meta charset="utf-8"><title>${title}</title>`,
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
    `<meta name="viewport" content="width=device-width, initial-scale=1">`,
    `<style>${PAGE_STYLE}</style></head><body><main>`,
    `<h1>${title}</h1>`,
    ...sections(profile).map((section) => renderSection(profile, section)),
    `<section id="device"><h2>Device and measurement</h2>${renderTable(["fact", "value"], facts(profile))}</section>`,
    renderNumbers(profile),
    "</main></body></html>",
    "",
  ].join("\n");
}
