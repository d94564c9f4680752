import { SERIES_COLORS, SERIES_SIGNS } from "./chart";
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
export type LegendEntry = readonly [name: string, color: number, sign?: string];

/** Entries for series in the order of their colours. */
export const legendOf = (names: readonly string[]): LegendEntry[] =>
  names.map((name, i) => {
    const color = i % SERIES_COLORS.length;
    return [name, color, SERIES_SIGNS[color]];
  });

function renderLegend(legend: readonly LegendEntry[] | undefined): string {
  if (!legend) return "";
  const items = legend.map(
    ([name, color, sign = "■"]) =>
      `<li><i style="color:${SERIES_COLORS[color]}">${sign}</i>${escapeHtml(name)}</li>`,
  );
  return `<ul class="legend">${items.join("")}</ul>`;
}

/** A part of a page with one drawing. */
export interface ChartSection {
  readonly id: string;
  readonly title: string;
  readonly text: string;
  readonly legend?: readonly LegendEntry[];
  /** An `<svg>`; undefined where there is nothing to draw, which is then said. */
  readonly svg: string | undefined;
}

export function renderChartSection({ id, title, text, legend, svg }: ChartSection): string {
  const body =
    svg === undefined
      ? `<p class="missing">not measured</p>`
      : `<p>${escapeHtml(text)}</p>${renderLegend(legend)}${svg}`;
  return `<section class="chart" id="${id}"><h2>${escapeHtml(title)}</h2>${body}</section>`;
}

export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, row: readonly string[]): string =>
    `<tr>${row.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join("")}</tr>`;
  const body = rows.map((row) => cells("td", row)).join("");
  return `<table><thead>${cells("th", head)}</thead><tbody>${body}</tbody></table>`;
}

/**
 * A page that needs nothing else: no script, no request, light and dark.
 *
 * @param title Plain text.
 * @param sections Markup, in which text of foreign origin has been escaped.
 */
export function renderDocument(title: string, sections: readonly string[]): string {
  const escaped = escapeHtml(title);
  return [
    "<!doctype html>",
    `<html lang="en"><head><meta charset="utf-8"><title>${escaped}</title>`,
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
    `<meta name="viewport" content="width=device-width, initial-scale=1">`,
    `<style>${PAGE_STYLE}</style></head><body><main>`,
    `<h1>${escaped}</h1>`,
    ...sections,
    "</main></body></html>",
    "",
  ].join("\n");
}
