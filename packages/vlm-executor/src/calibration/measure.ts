import { createCalibration, hotColdPermutation, weightOf } from "@neuron-chunking/chunk-selector";
import type { CalibratedBundle, CalibratedModel } from "@neuron-chunking/chunk-selector";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import type { Pass } from "../chunked-linear.js";
import { RunState } from "../decoder.js";
import { VlmExecutorError } from "../errors.js";
import { KvCache } from "../kv-cache.js";
import { encodePixels, InputBlocks } from "../model.js";
import type { Model, PixelInput } from "../model.js";
import { badOption } from "../selection/settings.js";
import { ImportanceRecord } from "./importance-record.js";
import { Sensitivity } from "./sensitivity.js";
import { TypicalInputs } from "./typical-inputs.js";
import type { InputKind, MeasuredCalibration } from "./typical-inputs.js";

/** From what leaves an answer as it is to the loss of a whole matrix. */
const DEFAULT_LEVELS = [0.25, 0.5, 0.75, 0.9, 1];
/** Figures in the file: more would be noise, and make it larger. */
const SIGNIFICANT_DIGITS = 6;

export interface CalibrateOptions {
  readonly signal?: AbortSignal;
  /** Prompts done so far, parts of a prompt included. */
  readonly onProgress?: (promptsDone: number) => void;
}

export interface MeasureOptions extends CalibrateOptions {
  /** Sparsities at which each matrix is tried, ascending, above 0 and at most 1; default 0.25, 0.5, 0.75, 0.9, 1. */
  readonly levels?: readonly number[];
}

type Prompts = Iterable<PixelInput> | AsyncIterable<PixelInput>;

/** One block of a prompt's tokens: one sample. */
interface Block {
  readonly first: number;
  readonly tokens: number;
  readonly isMeasured: boolean;
}

/**
 * A prompt in blocks of at most `blockTokens`, its last token alone: so both kinds of pass, prefill and decode, are
 * in the set. One block of each prompt, another from prompt to prompt, and the last token are measured.
 */
function blocksOf(length: number, blockTokens: number, promptIndex: number): Block[] {
  const blocks: { first: number; tokens: number; isMeasured: boolean }[] = [];
  for (let first = 0; first < length - 1; first += blockTokens) {
    blocks.push({ first, tokens: Math.min(blockTokens, length - 1 - first), isMeasured: false });
  }
  if (blocks.length > 0) blocks[promptIndex % blocks.length].isMeasured = true;
  blocks.push({ first: length - 1, tokens: 1, isMeasured: true });
  return blocks;
}

/** Runs prompts densely and records what passes through. */
class CalibrationRun {
  readonly records = new Map<string, ImportanceRecord>();
  readonly typical = new TypicalInputs();
  prompts = 0;
  passes = 0;
  tokens = 0;
  private readonly state: RunState;
  private readonly cache: KvCache;

  constructor(
    private readonly model: Model,
    private readonly sensitivity: Sensitivity,
    private readonly measures: boolean,
    private readonly options: CalibrateOptions,
  ) {
    this.state = new RunState(model.backend, model.config.decoder, model.blockTokens);
    this.cache = new KvCache(model.backend, model.config.decoder, model.contextLength);
  }

  async run(prompts: Prompts): Promise<void> {
    for await (const prompt of prompts) {
      await this.add(prompt);
      this.prompts += 1;
      this.options.onProgress?.(this.prompts);
    }
    if (this.passes > 0) return;
    throw new VlmExecutorError("EMPTY_PROMPT", "Calibration needs at least one prompt.");
  }

  private async add(prompt: PixelInput): Promise<void> {
    const { model, state, cache } = this;
    const { signal, onProgress } = this.options;
    const input = await encodePixels(model, prompt, signal);
    const length = input.tokenIds.length;
    if (length === 0) return;
    const inputs = new InputBlocks(model, input, model.blockTokens);
    cache.rollBackTo(0);
    cache.requireRoom(length);
    let kind: InputKind | undefined;
    const pass: Pass = {
      signal,
      projections: [],
      onImportance: (info, importance) => {
        const record = this.record(info);
        record.add(importance);
        if (kind !== undefined) this.typical.offer(info.name, kind, record.original, this.prompts);
      },
    };
    for (const { first, tokens, isMeasured } of blocksOf(length, model.blockTokens, this.prompts)) {
      if (isMeasured) kind = first === length - 1 ? "token" : "block";
      else kind = undefined;
      await model.lock.run(async () => {
        state.setRows(tokens);
        inputs.fill(state, first);
        if (this.measures && isMeasured) await this.sensitivity.measure(state, cache, pass);
        else await this.sensitivity.runDense(state, cache, pass);
      });
      pass.projections.length = 0;
      cache.commit(tokens);
      this.passes += 1;
      this.tokens += tokens;
      onProgress?.(this.prompts + (first + tokens) / length);
    }
  }

  private record(info: BundleInfo): ImportanceRecord {
    let record = this.records.get(info.name);
    if (record === undefined) this.records.set(info.name, (record = new ImportanceRecord(info)));
    return record;
  }
}

/**
 * Hot-cold row orders (PAPER.md, hot-cold reordering, 3.3) from the activations that `prompts` cause, every row used
 * whatever the model's policy; each pass of a block of tokens is one sample. For weight-store's
 * `convertCheckpoint({ permutations })`.
 *
 * @returns by name of the stored matrix: `permutation[stored] = original` input channel
 */
export async function calibrate(
  model: Model,
  bundles: readonly BundleInfo[],
  prompts: Prompts,
  options: CalibrateOptions,
): Promise<Record<string, Uint32Array>> {
  const run = new CalibrationRun(model, new Sensitivity(model, bundles, []), false, options);
  await run.run(prompts);
  return Object.fromEntries(
    [...run.records].map(([name, { activeCounts }]) => [name, hotColdPermutation(activeCounts)]),
  );
}

/**
 * Statistics and weights of every stored matrix from the passes that `prompts` cause. The same prompts give the same
 * calibration, bit for bit, on machines with the same kernels.
 *
 * @throws VlmExecutorError `INVALID_OPTION`, `EMPTY_PROMPT`, and what `logits` throws
 */
export async function measureCalibration(
  model: Model,
  bundles: readonly BundleInfo[],
  about: CalibratedModel,
  prompts: Prompts,
  options: MeasureOptions,
): Promise<MeasuredCalibration> {
  const levels = options.levels ?? DEFAULT_LEVELS;
  requireLevels(levels);
  const sensitivity = new Sensitivity(model, bundles, levels);
  const run = new CalibrationRun(model, sensitivity, true, options);
  await run.run(prompts);
  const calibration = createCalibration({
    model: about,
    source: {
      prompts: run.prompts,
      passes: run.passes,
      measuredPasses: sensitivity.measuredPasses,
      tokens: run.tokens,
    },
    bundles: bundles.map((info) => {
      const record = run.records.get(info.name);
      if (record === undefined) throw new Error(`no sample of ${info.name}`);
      return bundleOf(record, sensitivity);
    }),
  });
  const inputs = bundles.flatMap(({ name }) => run.typical.of(name) ?? []);
  return { ...calibration, inputs };
}

function bundleOf(record: ImportanceRecord, sensitivity: Sensitivity): CalibratedBundle {
  const { name, layer, rows, rowBytes } = record.info;
  const { total, cv, quantiles } = record.statistics;
  const points = sensitivity.points(name).map(({ sparsity, lostShare, error }) => ({
    sparsity,
    lostShare: rounded(lostShare),
    error: rounded(error),
  }));
  // Of the rounded points: whoever reads the file can make it again.
  const weight = weightOf(points);
  return {
    name,
    layer,
    rows,
    rowBytes,
    samples: record.samples,
    importance: {
      total: rounded(total),
      cv: rounded(cv),
      quantiles: { ...quantiles, values: quantiles.values.map(rounded) },
    },
    activeCounts: Array.from(record.activeCounts),
    weight,
    weightPerImportance: total > 0 ? rounded(weight / total) : 0,
    points,
  };
}

function rounded(value: number): number {
  return Number(value.toPrecision(SIGNIFICANT_DIGITS));
}

function requireLevels(levels: readonly number[]): void {
  const isWrong = levels.some((level, i) => !(level > (levels[i - 1] ?? 0) && level <= 1));
  if (levels.length > 0 && !isWrong) return;
  throw badOption("levels", "sparsities in ascending order, above 0 and at most 1", levels.join());
}
