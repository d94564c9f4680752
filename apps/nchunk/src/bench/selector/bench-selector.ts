import { setImmediate as nextTurn } from "node:timers/promises";
import {
  LatencyTable,
  SIMULATED_DEVICES,
  simulatedDevice,
  type DeviceProfile,
} from "@neuron-chunking/latency-model";
import { withProgress, type ReportProgress } from "../../terminal/progress";
import { Comparison, withExact, type SelectorCase } from "./compare";
import { shapeName, type ExactEffort, type SelectorEffort } from "./effort";
import { degenerateInputs, gridInputs, SEED, type BenchInput } from "./inputs";
import { summarise, type SelectorSummary } from "./summary";
import { timeSelections, type SelectionTimes } from "./timing";

/** With whose table the selections of all shapes are timed. */
const TIMED_DEVICE = "orin-agx";
/** The next share of rows may take so much longer than the last. */
const SLACK = 1.15;

export interface SelectorReport {
  readonly bench: "selector";
  readonly effort: string;
  readonly seed: number;
  /** The simulated ones, then this machine's unless the run is tiny. */
  readonly devices: readonly string[];
  readonly timedDevice: string;
  /** Shares of rows that were done, and those that there was no time for. */
  readonly keeps: readonly number[];
  readonly keepsLeftOut: readonly number[];
  readonly cases: readonly SelectorCase[];
  readonly summary: SelectorSummary;
  /** By device, then by shape as in the summary. */
  readonly selectNsByDevice: Readonly<Record<string, Readonly<Record<string, SelectionTimes>>>>;
  readonly elapsedMs: number;
}

interface Options {
  readonly effort: SelectorEffort;
  /** This machine's; undefined for the simulated devices alone. */
  readonly profile: DeviceProfile | undefined;
  readonly signal: AbortSignal;
  /** By `performance.now()`: measuring the profile counts towards the time of a run. */
  readonly startedMs: number;
}

/** Selects are synchronous: only between them can an interrupt be heard and a progress bar move. */
async function breathe({ signal }: Options): Promise<void> {
  await nextTurn();
  signal.throwIfAborted();
}

function tablesFor(profile: DeviceProfile | undefined): LatencyTable[] {
  const profiles = [...SIMULATED_DEVICES.map(simulatedDevice), ...(profile ? [profile] : [])];
  return profiles.map((one) => new LatencyTable(one));
}

/** By device, then by shape: all shapes with the timed device, some with the others, of which a table may have more steps. */
async function timeShapes(
  options: Options,
  tables: readonly LatencyTable[],
  report: ReportProgress,
): Promise<Record<string, Record<string, SelectionTimes>>> {
  const { shapes, timing, otherTiming, otherTimingShapes } = options.effort;
  const times: Record<string, Record<string, SelectionTimes>> = {};
  for (const table of tables) {
    const isTimed = table.name === TIMED_DEVICE;
    const byShape: Record<string, SelectionTimes> = {};
    for (const [done, shape] of shapes.entries()) {
      const name = shapeName(shape);
      if (!isTimed && !otherTimingShapes.includes(name)) continue;
      report(done / shapes.length, `timing ${name}, ${table.name}`);
      await breathe(options);
      byShape[name] = timeSelections(shape, table, isTimed ? timing : otherTiming);
    }
    times[table.name] = byShape;
  }
  return times;
}

interface Matrix {
  readonly comparison: Comparison;
  /** By device, in the order of the tables. */
  readonly inputs: readonly (readonly BenchInput[])[];
}

async function drawMatrices(options: Options, tables: readonly LatencyTable[]): Promise<Matrix[]> {
  const matrices: Matrix[] = [];
  for (const shape of options.effort.shapes) {
    await breathe(options);
    const grid = gridInputs(shape, options.effort.variations);
    const inputs = tables.map((table) => [...grid, ...degenerateInputs(shape, table)]);
    matrices.push({ comparison: new Comparison(shape), inputs });
  }
  return matrices;
}

/** A case with what it was computed from. */
interface Compared {
  readonly one: SelectorCase;
  readonly importance: Float32Array;
  readonly table: LatencyTable;
}

/** All inputs of all matrices on all devices for one share of rows. */
async function compareAt(
  keep: number,
  matrices: readonly Matrix[],
  tables: readonly LatencyTable[],
  options: Options,
  report: (share: number) => void,
): Promise<Compared[]> {
  const { degenerateKeeps } = options.effort;
  const compared: Compared[] = [];
  for (const [done, { comparison, inputs }] of matrices.entries()) {
    for (const [device, table] of tables.entries()) {
      report((done + device / tables.length) / matrices.length);
      for (const input of inputs[device]) {
        if (input.kind === "degenerate" && !degenerateKeeps.includes(keep)) continue;
        await breathe(options);
        const { importance } = input;
        compared.push({ one: comparison.compare(input, table, keep), importance, table });
      }
    }
  }
  return compared;
}

/** Share after share of rows until there is no time for another. */
async function compareAll(
  options: Options,
  tables: readonly LatencyTable[],
  report: ReportProgress,
): Promise<Compared[]> {
  const { effort, startedMs } = options;
  const matrices = await drawMatrices(options, tables);
  const compared: Compared[] = [];
  let lastMs = 0;
  for (const [done, keep] of effort.keeps.entries()) {
    const beganMs = performance.now();
    if (done > 0 && beganMs + SLACK * lastMs > startedMs + effort.budgetMs) break;
    const name = `keeping ${Math.round(100 * keep)} % of the rows`;
    const reportShare = (share: number): void => report((done + share) / effort.keeps.length, name);
    compared.push(...(await compareAt(keep, matrices, tables, options, reportShare)));
    lastMs = performance.now() - beganMs;
  }
  return compared;
}

/** Whether the exact optimum of a case is to be searched for. */
const isSearched = (
  { rows, kind, variation, keep }: SelectorCase,
  { maxRows, variations, keeps }: ExactEffort,
): boolean =>
  rows <= maxRows &&
  keeps.includes(keep) &&
  (kind === "degenerate" || variations.includes(variation ?? NaN));

/** The cases, those with the exact optimum that are small enough; until time is up, but some in any case. */
async function proveOptima(
  compared: readonly Compared[],
  options: Options,
  report: ReportProgress,
): Promise<SelectorCase[]> {
  const { exact } = options.effort;
  const endMs = options.startedMs + exact.budgetMs;
  const toSearch = compared.filter(({ one }) => isSearched(one, exact)).length;
  const cases: SelectorCase[] = [];
  let searched = 0;
  for (const { one, importance, table } of compared) {
    const hasTime = searched < exact.minCases || performance.now() < endMs;
    if (!hasTime || !isSearched(one, exact)) {
      cases.push(one);
      continue;
    }
    report(searched / toSearch, "proving optima");
    await breathe(options);
    cases.push(withExact(one, importance, table, exact.maxLabels));
    searched += 1;
  }
  return cases;
}

/** Compares `lagrange` with top-k, Algorithm 1 and the exact optimum by modelled latency, and times it. */
export async function benchSelector(options: Options): Promise<SelectorReport> {
  const { effort, profile, startedMs } = options;
  return withProgress("Comparing selectors", async (report) => {
    const tables = tablesFor(profile);
    const selectNsByDevice = await timeShapes(options, tables, report);
    const compared = await compareAll(options, tables, report);
    const cases = await proveOptima(compared, options, report);
    const keeps = effort.keeps.filter((keep) => cases.some((one) => one.keep === keep));
    return {
      bench: "selector",
      effort: effort.name,
      seed: SEED,
      devices: tables.map(({ name }) => name),
      timedDevice: TIMED_DEVICE,
      keeps,
      keepsLeftOut: effort.keeps.filter((keep) => !keeps.includes(keep)),
      cases,
      summary: summarise(cases, selectNsByDevice[TIMED_DEVICE]),
      selectNsByDevice,
      elapsedMs: performance.now() - startedMs,
    };
  });
}
