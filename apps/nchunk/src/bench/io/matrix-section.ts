import {
  activationFrequencies,
  budgetRows,
  hotColdPermutation,
} from "@neuron-chunking/chunk-selector";
import type { FlashReader, LandingBuffer } from "@neuron-chunking/flash-reader";
import { selectedRows } from "@neuron-chunking/latency-model";
import { median } from "../../statistics";
import { alternatingOrder, type Section } from "../alternating";
import { CALIBRATION_INPUTS, projectionInputs } from "../importance-cases";
import { alignToPage, planRanges } from "../plan-ranges";
import { verifySample } from "../verify";
import {
  equalTasks,
  type Arrangement,
  type Contender,
  type EqualTask,
  type InputPair,
  type MatrixQuery,
  type Planners,
  type PolicyTables,
} from "./contenders";
import type { IoEffort } from "./effort";
import { planImportance, requireImportance } from "./equal-importance";
import type { Pace } from "./pace";
import type { MatrixShape } from "./shapes";

/** What every matrix is measured with. */
export interface IoContext {
  readonly effort: IoEffort;
  readonly reader: FlashReader;
  readonly landing: LandingBuffer;
  readonly contenders: ReadonlyMap<string, Contender>;
  readonly planners: Planners;
  readonly tables: PolicyTables;
  readonly pace: Pace;
  readonly uniform: () => number;
  readonly signal: AbortSignal;
}

/** One matrix under one setting. */
export interface MatrixSetting {
  readonly shape: MatrixShape;
  readonly keep: number;
  readonly variation: number;
  readonly seed: number;
  /** By `roughReadNs`. */
  readonly roughNs: number;
}

/** One contender on one input. */
interface Sample {
  readonly selectNs: number;
  readonly readNs: number;
  /** Share of the total. */
  readonly importance: number;
  readonly rows: number;
  readonly chunks: number;
  readonly requests: number;
  readonly bytesRead: number;
}

/** Medians over the inputs of one round. */
export type RoundSample = Readonly<Sample>;

const SAMPLE_FIELDS = [
  "selectNs",
  "readNs",
  "importance",
  "rows",
  "chunks",
  "requests",
  "bytesRead",
] as const;

export const medianSample = (samples: readonly Sample[]): Sample =>
  Object.fromEntries(
    SAMPLE_FIELDS.map((field) => [field, median(samples.map((sample) => sample[field]))]),
  ) as unknown as Sample;

/** Inputs before those that are measured in each round: a selector is warm, but not by the same numbers. */
const WARM_UP_INPUTS = 2;
const MIN_ROWS = 16;

/** Draws inputs of one matrix in both orders; none is drawn twice, and none is among the calibration's. */
function inputPairs(
  rows: number,
  { variation, seed }: MatrixSetting,
): (input: number) => InputPair {
  const inputOf = projectionInputs({ rows, variation, seed });
  const calibration = Array.from({ length: CALIBRATION_INPUTS }, (_, input) => inputOf(input + 1));
  const permutation = hotColdPermutation(activationFrequencies(calibration));
  return (input) => {
    const original = inputOf(CALIBRATION_INPUTS + 1 + input);
    return { original, hotCold: Float32Array.from(permutation, (row) => original[row]) };
  };
}

/** A matrix that is read by all contenders in each round, each time for new inputs and at new places of the file. */
export class MatrixSection implements Section {
  readonly name: string;
  readonly minRounds: number;
  readonly maxRounds: number;
  /** Less than the matrix has where the disk is too slow for it, or a test too short. */
  rows: number;
  /** Ranges of the first input that were compared with the file's known content. */
  verifiedRanges = 0;
  readonly #context: IoContext;
  readonly #rounds = new Map<string, RoundSample[]>();
  #share = 1;
  #drawPair: ((input: number) => InputPair) | undefined;
  #inputs = 0;
  readonly #lastPrices: MatrixQuery["lastPrices"] = {};

  constructor(
    context: IoContext,
    readonly setting: MatrixSetting,
  ) {
    const { shape } = setting;
    this.#context = context;
    this.name = `${shape.model} ${shape.bundle}`;
    this.minRounds = context.effort.minRounds;
    this.maxRounds = context.effort.maxRounds;
    this.rows = shape.rows;
  }

  /** Of one contender, one per round; empty before the first. */
  roundsOf(key: string): readonly RoundSample[] {
    return this.#rounds.get(key) ?? [];
  }

  async runRound(round: number): Promise<void> {
    const { contenders, effort, pace, signal } = this.#context;
    const drawPair = (this.#drawPair ??= this.#begin());
    const draw = (): Record<Arrangement, EqualTask> => this.#tasks(drawPair(this.#inputs++));
    for (let i = 0; i < WARM_UP_INPUTS; i += 1) {
      const tasks = draw();
      for (const { selector, way, arrangement } of contenders.values()) {
        selector.select(tasks[arrangement].requests[way]);
      }
    }
    const samples = new Map([...contenders.keys()].map((key) => [key, [] as Sample[]]));
    const begunMs = performance.now();
    for (let i = 0; i < effort.maxInputs; i += 1) {
      if (i > 0 && performance.now() - begunMs > effort.roundMs) break;
      signal.throwIfAborted();
      const tasks = draw();
      for (const key of orderOf([...contenders.keys()], this.setting.seed, round + i)) {
        const sample = await this.#measure(key, tasks, round === 0 && i === 0);
        samples.get(key)?.push(sample);
      }
    }
    let totalNs = 0;
    for (const [key, taken] of samples) {
      const typical = medianSample(taken);
      totalNs += typical.selectNs + typical.readNs;
      this.#rounds.set(key, [...this.roundsOf(key), typical]);
    }
    if (round === 0) pace.done(this.setting.roughNs, this.#share, totalNs);
  }

  /** At the first round: how many rows there is time for. */
  #begin(): (input: number) => InputPair {
    const { effort, pace } = this.#context;
    const { shape } = this.setting;
    const mostRows = Math.floor(effort.maxMatrixBytes / shape.rowBytes);
    const rows = Math.min(mostRows, Math.floor(pace.share() * shape.rows));
    this.rows = Math.min(shape.rows, Math.max(MIN_ROWS, rows));
    this.#share = this.rows / shape.rows;
    return inputPairs(this.rows, this.setting);
  }

  #tasks(pair: InputPair): Record<Arrangement, EqualTask> {
    const { tables, planners } = this.#context;
    const { shape, keep } = this.setting;
    const { rows } = this;
    const query = {
      rows,
      rowBytes: shape.rowBytes,
      budgetRows: budgetRows(rows, 1 - keep),
      tables,
      lastPrices: this.#lastPrices,
    };
    return equalTasks(pair, query, planners);
  }

  /** Selects and reads at once, as a layer does. */
  async #measure(
    key: string,
    tasks: Record<Arrangement, EqualTask>,
    isVerified: boolean,
  ): Promise<Sample> {
    const { contenders, landing, reader, signal } = this.#context;
    const { selector, way, arrangement, readThrough } = contenders.get(key) as Contender;
    const { importance, requests, target } = tasks[arrangement];
    const { rowBytes } = this.setting.shape;
    const layout = { baseOffsetBytes: this.#drawPlace(), rowBytes };
    const startedAt = process.hrtime.bigint();
    const plan = selector.select(requests[way]);
    const selectedAt = process.hrtime.bigint();
    const result = await reader.readPlan(plan, layout, { into: landing, signal, readThrough });
    const readAt = process.hrtime.bigint();
    if (isVerified) {
      const ranges = planRanges(plan, rowBytes, layout.baseOffsetBytes);
      this.verifiedRanges += verifySample(result, ranges);
    }
    const kept = planImportance(plan, importance);
    requireImportance(way, kept, target);
    return {
      selectNs: Number(selectedAt - startedAt),
      readNs: Number(readAt - selectedAt),
      importance: kept / importance.reduce((sum, value) => sum + value, 0),
      rows: selectedRows(plan),
      chunks: plan.chunkCount,
      requests: result.requests,
      bytesRead: result.bytesRead,
    };
  }

  /** A random page of the file at which the matrix fits: no cache of the device shall help. */
  #drawPlace(): number {
    const { reader, uniform } = this.#context;
    const page = alignToPage(1);
    const lengthBytes = this.rows * this.setting.shape.rowBytes;
    const places = Math.floor((reader.sizeBytes - lengthBytes) / page) + 1;
    return Math.floor(uniform() * places) * page;
  }
}

/** Alternating, and another one first in each matrix: what comes first finds the device idle. */
function orderOf<T>(contenders: readonly T[], matrix: number, turn: number): T[] {
  const first = (matrix + (turn >> 1)) % contenders.length;
  return alternatingOrder([...contenders.slice(first), ...contenders.slice(0, first)], turn);
}
