import { escapeHtml } from "../../html-page/document";
import { SERIES_COLORS } from "../../html-page/chart";
import type { ChunkPlan } from "@neuron-chunking/latency-model";
import { formatNs } from "../../terminal/format";
import { POLICY_TITLES } from "./charts";
import { FIGURE_ORDERS, FIGURE_POLICIES, type FigurePlan, type Figures } from "./figures";

/** Rows of the matrix side by side in one line of a drawn mask; a row is one unit wide. */
const ROWS_PER_LINE = 256;
const LINE_HEIGHT = 8;
const LINE_STROKE = 6;
const PANEL_GAP = 24;
const TITLE_HEIGHT = 40;

/** One stroke for each run of selected rows, cut where a line ends. */
export function maskPath(plan: ChunkPlan): string {
  const strokes: string[] = [];
  for (let chunk = 0; chunk < plan.chunkCount; chunk += 1) {
    const end = plan.starts[chunk] + plan.lengths[chunk];
    for (let row = plan.starts[chunk]; row < end;) {
      const line = Math.floor(row / ROWS_PER_LINE);
      const stop = Math.min(end, (line + 1) * ROWS_PER_LINE);
      strokes.push(`M${row % ROWS_PER_LINE} ${(line + 0.5) * LINE_HEIGHT}h${stop - row}`);
      row = stop;
    }
  }
  return strokes.join("");
}

function panel(
  figures: Figures,
  { policy, order, plan, latencyNs, contiguity }: FigurePlan,
): string {
  const column = FIGURE_POLICIES.indexOf(policy);
  const lines = Math.ceil(figures.shape.rows / ROWS_PER_LINE);
  const height = lines * LINE_HEIGHT;
  const x = column * (ROWS_PER_LINE + PANEL_GAP);
  const y = FIGURE_ORDERS.indexOf(order) * (height + TITLE_HEIGHT);
  const title = escapeHtml(`${POLICY_TITLES[policy]}, ${order}`);
  const facts = escapeHtml(
    `${formatNs(latencyNs)}, ${contiguity.rows} rows in ${contiguity.chunkCount} chunks`,
  );
  return (
    `<g transform="translate(${x} ${y})"><text y="14" font-weight="600">${title}</text><text y="30" fill="var(--soft)">${facts}</text>` +
    `<g transform="translate(0 ${TITLE_HEIGHT - 4})"><rect width="${ROWS_PER_LINE}" height="${height}" fill="var(--page)"/>` +
    `<path d="${maskPath(plan)}" stroke="${SERIES_COLORS[column]}" stroke-width="${LINE_STROKE}" shape-rendering="crispEdges"/></g></g>`
  );
}

/** Which rows each policy selects, before reordering (above) and after (below). */
export function masksChart(figures: Figures): string {
  const width = FIGURE_POLICIES.length * (ROWS_PER_LINE + PANEL_GAP) - PANEL_GAP;
  const lines = Math.ceil(figures.shape.rows / ROWS_PER_LINE);
  const height = FIGURE_ORDERS.length * (lines * LINE_HEIGHT + TITLE_HEIGHT);
  const alt =
    "Masks of selected rows: top-k's are scattered, those of Algorithm 1 and lagrange lie together, more so after reordering";
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(alt)}" ` +
    `fill="currentColor" font-size="13" font-family="system-ui, sans-serif">${figures.plans.map((one) => panel(figures, one)).join("")}</svg>`
  );
}
