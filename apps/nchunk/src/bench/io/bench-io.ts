import os from "node:os";
import { FlashReader } from "@neuron-chunking/flash-reader";
import { LatencyTable, requestTable, type DeviceProfile } from "@neuron-chunking/latency-model";
import { uniformGenerator } from "../../random";
import { withProgress, type ReportProgress } from "../../terminal/progress";
import { runRounds, type Section } from "../alternating";
import { ensureBenchFile } from "../bench-file";
import { createContenders, createPlanners, type Contender } from "./contenders";
import type { IoEffort } from "./effort";
import { MatrixSection, type IoContext, type MatrixSetting } from "./matrix-section";
import { Pace, roughReadNs } from "./pace";
import { casesOf, noiseOf, summarize, type IoReport } from "./report";
import { MATRIX_SHAPES } from "./shapes";

const PLACE_SEED = 29;

const BUFFERED_NOTE =
  "This file system has no direct I/O: everything was read through the page cache, so none of this is the speed of a disk.";

/** Load per core before the bench begins from which other work disturbs it. */
const BUSY_LOAD_PER_CORE = 0.5;

/** What else the machine was doing: the mean number of runnable threads in the minute before. */
const loadPerCore = (): number => os.loadavg()[0] / os.availableParallelism();

export interface IoBenchOptions {
  readonly folder: string;
  readonly effort: IoEffort;
  /** How to drive the device, and what its reads cost. */
  readonly profile: DeviceProfile;
  /** When the command began, by `performance.now()`: its budget is for all that it does. */
  readonly startedMs: number;
  readonly signal: AbortSignal;
}

/** Reads what each policy selects of every matrix, at equal importance, selection included. */
export async function benchIo(options: IoBenchOptions): Promise<IoReport> {
  const { folder, effort, profile, startedMs, signal } = options;
  const load = loadPerCore();
  const file = await ensureBenchFile(folder, effort.fileBytes, signal);
  const tuning = profile.reader?.tuning;
  const reader = await FlashReader.open(file.path, tuning ? { tuning } : {});
  try {
    const sections = await withProgress("Reading what the policies select", (report) =>
      measure(reader, options, report),
    );
    const inReportOrder = [...sections].sort((a, b) => a.setting.seed - b.setting.seed);
    const cases = inReportOrder.flatMap(casesOf);
    const rounds = cases.map((one) => one.rounds);
    const { tier, directIo } = reader.backend;
    return {
      bench: "io",
      effort: effort.name,
      file: { path: file.path, sizeBytes: file.sizeBytes },
      profile: { name: profile.name, ...(profile.noise ? { noise: profile.noise } : {}) },
      reader: { tier, directIo, tuning: reader.tuning },
      cases,
      summary: summarize(cases, inReportOrder),
      rounds: { least: Math.min(...rounds), most: Math.max(...rounds) },
      noise: noiseOf(cases),
      loadPerCore: load,
      verifiedRanges: sections.reduce((sum, { verifiedRanges }) => sum + verifiedRanges, 0),
      notes: [...(directIo ? [] : [BUFFERED_NOTE]), ...busyNote(load), ...cutNote(sections)],
      elapsedMs: performance.now() - startedMs,
    };
  } finally {
    await reader.close();
  }
}

function busyNote(load: number): string[] {
  if (load < BUSY_LOAD_PER_CORE) return [];
  return [
    `The machine was busy with other work (load ${load.toFixed(1)} per core): selections wait for cores and reads for each other. ` +
      "Measure again when it is idle.",
  ];
}

/** Says which matrices were cut; the cases have `rows` and `modelRows`. */
function cutNote(sections: readonly MatrixSection[]): string[] {
  const cut = sections.filter(({ rows, setting }) => rows < setting.shape.rows);
  if (cut.length === 0) return [];
  const least = Math.min(...cut.map(({ rows, setting }) => rows / setting.shape.rows));
  return [
    `There was no time for all rows of ${cut.length} of ${sections.length} matrices: as few as ${(least * 100).toFixed(1)} % of one's ` +
      "rows were measured.",
  ];
}

/** Every matrix under every setting, those that are read fastest first. */
function settingsOf(
  effort: IoEffort,
  contenders: readonly Contender[],
  table: LatencyTable,
): MatrixSetting[] {
  const scattered = contenders.filter(({ way }) => way === "topk").length;
  const reads = { scattered, inRuns: contenders.length - scattered };
  return MATRIX_SHAPES.flatMap((shape) =>
    effort.keptShares.flatMap((keep) =>
      effort.variations.map((variation) => {
        const rows = Math.min(shape.rows, Math.ceil(effort.maxMatrixBytes / shape.rowBytes));
        const roughNs = roughReadNs({ rows, rowBytes: shape.rowBytes }, table, reads);
        return { shape, keep, variation, roughNs };
      }),
    ),
  )
    .map((setting, seed) => ({ ...setting, seed }))
    .sort((a, b) => a.roughNs - b.roughNs);
}

const WARM_UP_ROUNDS = 3;

/** Rounds of the smallest matrix that do not count: the first selections of a process are far slower than all others. */
async function warmUp(context: IoContext, smallest: MatrixSetting): Promise<void> {
  const pace = new Pace([smallest.roughNs], () => Infinity);
  const section = new MatrixSection({ ...context, pace }, smallest);
  for (let round = 0; round < WARM_UP_ROUNDS; round += 1) await section.runRound(round);
}

async function measure(
  reader: FlashReader,
  { effort, profile, startedMs, signal }: IoBenchOptions,
  report: ReportProgress,
): Promise<MatrixSection[]> {
  const table = new LatencyTable(profile);
  const maxRows = Math.max(...MATRIX_SHAPES.map(({ rows }) => rows));
  const contenders = createContenders(maxRows);
  const settings = settingsOf(effort, [...contenders.values()], table);
  // No time at all is for tests, which cut the matrices themselves.
  const budgetMs = effort.budgetMs > 0 ? effort.budgetMs : Infinity;
  const deadlineMs = startedMs + budgetMs;
  const remainingMs = (): number => deadlineMs - performance.now();
  const firstRoundMs = startedMs + budgetMs / effort.minRounds;
  const largest = settings.map(({ shape }) => shape.rows * shape.rowBytes);
  const landing = reader.allocate(
    Math.min(Math.max(...largest), reader.sizeBytes) + 2 * reader.alignmentBytes,
  );
  // The first read into a page would wait for the kernel to clear it.
  landing.bytes.fill(1);
  const context: IoContext = {
    ...{ effort, reader, landing, contenders, signal },
    planners: createPlanners(maxRows),
    tables: { chunk: table, lagrange: requestTable(profile) },
    pace: new Pace(
      settings.map(({ roughNs }) => roughNs),
      () => firstRoundMs - performance.now(),
    ),
    uniform: uniformGenerator(PLACE_SEED),
  };
  await warmUp(context, settings[0]);
  const sections = settings.map((setting) => new MatrixSection(context, setting));
  const begunMs = performance.now();
  const reported = sections.map((section, i): Section => {
    const { name, minRounds, maxRounds } = section;
    const runRound = (round: number): Promise<void> => {
      const fraction = Math.max(
        (performance.now() - begunMs) / (deadlineMs - begunMs),
        (round + i / sections.length) / maxRounds,
      );
      report(fraction, `${name}, round ${round + 1}`);
      return section.runRound(round);
    };
    return { name, minRounds, maxRounds, runRound };
  });
  await runRounds(reported, remainingMs);
  return sections;
}
