import { formatNs, formatPercent, formatTable } from "../../terminal/format";
import type { SelectorReport } from "./bench-selector";
import type { SelectorCase } from "./compare";
import type { PartMean, SelectorSummary } from "./summary";
import type { SelectionTimes } from "./timing";

/** What this project set itself; a figure beside its aim can be judged at a glance. */
export const AIMS = Object.freeze({
  toChunkMean: 0.945,
  toBestMax: 1,
  toExactMax: 1.02,
  /** By rows, ns: a pass at a fixed price, and solved for a row budget. */
  largest: { rows: 18944, price: 500_000, budget: 2_000_000 },
  smallest: { rows: 896, price: 50_000, budget: 200_000 },
});

/** `18944 rows of 7168 B, hot-cold, variation 1.3, 50 % kept, orin-agx`. */
export function nameOfCase(one: SelectorCase): string {
  const variation = one.variation === null ? "" : `, variation ${one.variation}`;
  return `${one.rows} rows of ${one.rowBytes} B, ${one.order}${variation}, ${Math.round(100 * one.keep)} % kept, ${one.device}`;
}

const verdict = (value: number, aim: number): string => (value <= aim ? "reached" : "missed");

function aimsTable(summary: SelectorSummary): string {
  const { lagrangeToChunkMean, lagrangeToBestMax, lagrangeToExactMax, exact } = summary;
  const row = (what: string, value: number, aim: number): string[] => [
    what,
    value.toFixed(4),
    `≤ ${aim}`,
    verdict(value, aim * (1 + 1e-9)),
  ];
  return formatTable(
    ["modelled latency at equal importance", "lagrange", "aim", ""],
    [
      row("over Algorithm 1, mean", lagrangeToChunkMean, AIMS.toChunkMean),
      row("over the better of it and top-k, worst", lagrangeToBestMax, AIMS.toBestMax),
      lagrangeToExactMax === null
        ? ["over the optimum, worst", "none proven", `≤ ${AIMS.toExactMax}`, ""]
        : row(
            `over the optimum, worst of ${exact.proven} proven`,
            lagrangeToExactMax,
            AIMS.toExactMax,
          ),
    ],
  );
}

const partsLine = (title: string, parts: readonly PartMean[]): string =>
  `${title}: ${parts.map((part) => `${part.name} ${part.lagrangeToChunkMean.toFixed(3)}`).join(", ")}.`;

/** The aims are set for the largest number of rows and the smallest. */
function aimFor(shape: string): { price: number; budget: number } | undefined {
  const rows = Number(shape.split("x")[0]);
  return [AIMS.largest, AIMS.smallest].find((aim) => aim.rows === rows);
}

function timesTable(selectNs: SelectorSummary["selectNs"]): string {
  const row = ([shape, times]: [string, SelectionTimes]): string[] => {
    const aim = aimFor(shape);
    const isFaster = times.price < times.chunk && times.budget < times.chunk;
    const within = (time: number, limit: number | undefined): string =>
      limit === undefined ? formatNs(time) : `${formatNs(time)} (≤ ${formatNs(limit)})`;
    return [
      shape.replace("x", " rows x ") + " B",
      within(times.price, aim?.price),
      within(times.budget, aim?.budget),
      formatNs(times.importanceTarget),
      formatNs(times.chunk),
      isFaster ? "yes" : "no",
    ];
  };
  return formatTable(
    [
      "median time of a selection",
      "at a price",
      "row budget",
      "importance",
      "Algorithm 1",
      "faster",
    ],
    Object.entries(selectNs).map(row),
  );
}

/** Tables of measured devices have more steps than a straight line, which costs time. */
function otherTimes({ selectNsByDevice, timedDevice }: SelectorReport): string {
  const others = Object.entries(selectNsByDevice).filter(([device]) => device !== timedDevice);
  const texts = others.flatMap(([device, byShape]) =>
    Object.entries(byShape).map(
      ([shape, { price, budget, chunk }]) =>
        `${device}, ${shape}: ${formatNs(price)}, ${formatNs(budget)} (Algorithm 1 ${formatNs(chunk)})`,
    ),
  );
  return `With the tables of others, at a price and for a row budget: ${texts.join("; ")}.`;
}

/** The report for people. */
export function describeSelector(report: SelectorReport): string {
  const { summary, keeps, keepsLeftOut, cases } = report;
  const percentages = (shares: readonly number[]): string =>
    shares
      .map((share) => Math.round(100 * share))
      .sort((a, b) => a - b)
      .join(", ");
  const { exact, worst } = summary;
  const worstExact = worst.toExact.at(0);
  return [
    `${cases.length} cases on ${report.devices.join(", ")}; rows kept by Algorithm 1: ${percentages(keeps)} %` +
      `${keepsLeftOut.length > 0 ? ` (no time for ${percentages(keepsLeftOut)} %; --thorough does all)` : ""}. Seed ${report.seed}.`,
    aimsTable(summary),
    partsLine("Over Algorithm 1, by order", summary.byOrder),
    partsLine("By device", summary.byDevice),
    partsLine("By variation", summary.byVariation),
    partsLine(
      "By share kept",
      [...summary.byKeep].sort((a, b) => Number(a.name) - Number(b.name)),
    ),
    `Faster than Algorithm 1 in ${formatPercent(summary.fasterThanChunk)} of the cases; slower than the better of it and top-k in ${summary.slowerThanBest}.`,
    `Worst beside the better: ${worst.toBest[0].lagrangeToBest.toFixed(4)} (${nameOfCase(worst.toBest[0])}).`,
    `Exact search: ${exact.proven} of ${exact.tried} proven` +
      (worstExact
        ? `; worst ${worstExact.lagrangeToExact?.toFixed(4)} (${nameOfCase(worstExact)}).`
        : "."),
    timesTable(summary.selectNs),
    `One thread, ${report.timedDevice}'s table, another input each time; medians of alternating rounds.`,
    otherTimes(report),
  ].join("\n");
}
