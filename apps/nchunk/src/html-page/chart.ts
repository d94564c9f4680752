import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";

/** Charts are drawn for this width and scale with the page. */
const WIDTH = 860;
const HEIGHT = 340;
const MARGINS = { marginTop: 28, marginRight: 28, marginBottom: 44, marginLeft: 72 };

/** Colours are names of the page's style, which has them for light and for dark. */
export const SERIES_COLORS: readonly string[] = Array.from(
  { length: 6 },
  (_, i) => `var(--series-${i})`,
);
export const SOFT = "var(--soft)";

/** Symbols beside the colours, for eyes that see colours alike: names of Plot, and signs for legends. */
const SERIES_SYMBOLS = ["circle", "diamond", "square", "triangle", "star", "wye"] as const;
export const SERIES_SIGNS: readonly string[] = ["●", "◆", "■", "▲", "★", "Y"];

/** Powers of four bytes between two sizes, so that labels have room. */
export function byteTicks(sizes: readonly number[]): number[] {
  const [from, to] = [Math.log2(Math.min(...sizes)), Math.log2(Math.max(...sizes))];
  const step = to - from > 8 ? 2 : 1;
  const ticks: number[] = [];
  for (let power = Math.ceil(from); power <= to; power += step) ticks.push(2 ** power);
  return ticks;
}

const trimmed = (value: number): string => String(Number(value.toPrecision(3)));

export function formatByteTick(bytes: number): string {
  if (bytes >= 2 ** 20) return `${trimmed(bytes / 2 ** 20)} MiB`;
  return bytes >= 2 ** 10 ? `${trimmed(bytes / 2 ** 10)} KiB` : `${trimmed(bytes)} B`;
}

export function formatTimeTick(ns: number): string {
  if (ns >= 1e9) return `${trimmed(ns / 1e9)} s`;
  if (ns >= 1e6) return `${trimmed(ns / 1e6)} ms`;
  return ns >= 1e3 ? `${trimmed(ns / 1e3)} µs` : `${trimmed(ns)} ns`;
}

export function formatRateTick(bytesPerSecond: number): string {
  if (bytesPerSecond >= 1e9) return `${trimmed(bytesPerSecond / 1e9)} GB/s`;
  return `${trimmed(bytesPerSecond / 1e6)} MB/s`;
}

/** Round numbers, the more of them the fewer decades there are; the ends where none lies between. */
export function decadeTicks(values: readonly number[]): number[] {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const decades = Math.log10(most / least);
  const steps = decades > 3.5 ? [1] : decades > 1.7 ? [1, 3] : [1, 1.5, 2, 3, 5, 7];
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(most)); power++) {
    for (const step of steps) {
      const tick = step * 10 ** power;
      if (tick >= least * 0.999 && tick <= most * 1.001) ticks.push(tick);
    }
  }
  return ticks.length > 1 ? ticks : [least, most];
}

/** A logarithmic axis of bytes, time or rates with ticks at round numbers and as much room as the values need. */
export function logScale(
  values: readonly number[],
  label: string,
  format: (value: number) => string,
): Plot.ScaleOptions {
  const padding = 1.12;
  const domain = [Math.min(...values) / padding, Math.max(...values) * padding];
  return {
    type: "log",
    domain,
    grid: true,
    label,
    labelArrow: "none",
    ticks: decadeTicks(domain),
    tickFormat: format,
  };
}

/** From the least to the largest; around a single value there must be room too. */
export function domainOf(values: readonly number[]): [number, number] {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return least < most ? [least, most] : [least / 2, most * 2];
}

export function byteScale(sizes: readonly number[], label = "read size"): Plot.ScaleOptions {
  return {
    type: "log",
    base: 2,
    domain: domainOf(sizes),
    grid: true,
    label,
    labelAnchor: "center",
    labelArrow: "none",
    ticks: byteTicks(sizes),
    tickFormat: formatByteTick,
  };
}

/** Colour by name, in the order given. */
export function seriesColors(names: readonly string[]): Plot.ScaleOptions {
  const range = names.map((_, i) => SERIES_COLORS[i % SERIES_COLORS.length]);
  return { type: "ordinal", domain: [...names], range };
}

/** Symbol by name, in the order given. */
export function seriesSymbols(names: readonly string[]): Plot.ScaleOptions {
  const range = names.map((_, i) => SERIES_SYMBOLS[i % SERIES_SYMBOLS.length]);
  return { domain: [...names], range };
}

/** What drawing gives back; this package is typed without the DOM, which only drawing here would need. */
interface DrawnElement {
  readonly outerHTML: string;
  setAttribute(name: string, value: string): void;
}
const draw = Plot.plot as unknown as (
  options: Plot.PlotOptions & { document: unknown },
) => DrawnElement;

/** Draws without a browser; the result is a static `<svg>` that needs no script. */
export function drawSvg(title: string, options: Plot.PlotOptions): string {
  const { document } = parseHTML("<!doctype html><html><body></body></html>") as {
    document: unknown;
  };
  const drawn = draw({
    width: WIDTH,
    height: HEIGHT,
    ...MARGINS,
    style: { fontSize: "13px" },
    ariaLabel: title,
    ...options,
    document,
  });
  drawn.setAttribute("role", "img");
  return drawn.outerHTML;
}
