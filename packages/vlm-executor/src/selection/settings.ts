import type { ChunkHyperparameters, PolicyName } from "@neuron-chunking/chunk-selector";
import { requestTable, simulatedDevice } from "@neuron-chunking/latency-model";
import type { DeviceProfile, LatencyTable } from "@neuron-chunking/latency-model";
import type { MeasuredCalibration, TypicalInput } from "../calibration/typical-inputs.js";
import { VlmExecutorError } from "../errors.js";

const DEFAULT_SPARSITY = 0.5;
/** Stands in for a profile of the actual device; estimates made with it are modelled, not measured. */
const FALLBACK_DEVICE = "nvme-gen4";

/** By what `lagrange` weighs the matrices of a model against each other. */
export type Balance = "one-price" | "equal-importance";

/** Which rows a model reads. */
export interface SelectionOptions {
  /** Default `dense`: every row, exact. */
  readonly policy?: PolicyName;
  /**
   * Share of rows left out by `topk` and `chunk`, 0 to below 1; default 0.5. What `lagrange` makes of it, `balance` says.
   */
  readonly sparsity?: number;
  /**
   * `lagrange` at a sparsity:
   * - `equal-importance`: each matrix keeps at least the importance that `topk` keeps at this sparsity, in the least
   *   modelled latency;
   * - `one-price`: the modelled latency that this would take, spent where it saves the most error: one price for the whole
   *   model, one for each kind of pass, fixed when the model is opened by trying it on inputs that the calibration has kept. A third of
   *   the time to select. Passes differ from `equal-importance` in what each reads; over many the latency is about the same.
   *
   * Default: `one-price` where there is a calibration (given, or the image's own) with such inputs and no `sparsities`,
   * else `equal-importance`. At a sparsity of 0 both read everything.
   */
  readonly balance?: Balance;
  /** By name of the stored matrix, 0 to 1, instead of `sparsity`: TEAL's allocation, for example. */
  readonly sparsities?: Readonly<Record<string, number>>;
  /** Least importance of a kept row; needed by `threshold`. */
  readonly threshold?: number;
  /** Window sizes that `chunk` tries, where not the paper's for the matrix's shape (chunk-selector). */
  readonly hyperparameters?: Partial<ChunkHyperparameters>;
  /** Read latencies of the device the image lies on; default: a modelled NVMe drive. */
  readonly profile?: DeviceProfile;
  /**
   * What `VlmExecutor.measure` found for this model (or the file of it, see `readCalibration`). With it, traces
   * estimate each pass's error; the three options below need it, `balance` is better with it. Both find it in the image's
   * `calibration.json`.
   */
  readonly calibration?: MeasuredCalibration;
  /** `lagrange` only: modelled read time of one pass, ns; the price is found pass by pass. */
  readonly latencyTargetNs?: number;
  /** `lagrange` only: mean over layers of the calibrated relative error of a layer's output, above 0. */
  readonly qualityTarget?: number;
  /** `lagrange` only: the price itself, relative error of a layer's output that one ns must save, above 0. */
  readonly pricePerNs?: number;
}

/** What decides in `lagrange`, where not top-k's importance at a sparsity. */
export type PriceSettings =
  | {
      readonly kind: "latency" | "quality" | "fixed";
      /** ns, relative error, or relative error per ns. */
      readonly value: number;
    }
  | {
      readonly kind: "sparsity";
      /** Above 0. */
      readonly value: number;
      /** To find the price by. */
      readonly inputs: readonly TypicalInput[];
    };

/** A calibration as passes need it. */
export interface CalibratedWeights {
  /** By name: relative error of the layer's output per share of the input's importance lost. */
  readonly weights: ReadonlyMap<string, number>;
  readonly layers: number;
}

/** How rows are chosen in a model, checked. */
export interface SelectionSettings {
  readonly policy: PolicyName;
  /** Share of rows left out, 0 to below 1; of no effect for `dense` and `threshold`. */
  readonly sparsity: number;
  readonly sparsities?: Readonly<Record<string, number>>;
  /** For `threshold`: rows of at least this importance are kept. */
  readonly threshold?: number;
  /** Replace the paper's for the matrix's shape. */
  readonly hyperparameters: Partial<ChunkHyperparameters>;
  /** Read latencies that `chunk` and `lagrange` trade against importance: a chunk's as part of a batch. */
  readonly table: LatencyTable;
  /** Where `table` comes from. */
  readonly device: { readonly name: string; readonly origin: "measured" | "modelled" };
  readonly calibration?: CalibratedWeights;
  readonly price?: PriceSettings;
}

/** @throws VlmExecutorError `INVALID_OPTION`, `CALIBRATION_MISSING` */
export function selectionSettings(options: SelectionOptions): SelectionSettings {
  const { policy = "dense", threshold, sparsities, calibration } = options;
  const sparsity = policy === "dense" ? 0 : (options.sparsity ?? DEFAULT_SPARSITY);
  if (!(sparsity >= 0 && sparsity < 1)) throw badOption("sparsity", "from 0 to below 1", sparsity);
  if (policy === "threshold" && !(threshold !== undefined && threshold >= 0)) {
    throw badOption("threshold", "given, and 0 or more, for the policy threshold", threshold);
  }
  for (const [name, value] of Object.entries(sparsities ?? {})) {
    if (!(value >= 0 && value <= 1)) throw badOption(`sparsities of ${name}`, "from 0 to 1", value);
  }
  const price = priceSettings(options, policy);
  const profile = options.profile ?? simulatedDevice(FALLBACK_DEVICE);
  return {
    policy,
    sparsity,
    ...(sparsities === undefined ? {} : { sparsities }),
    ...(threshold === undefined ? {} : { threshold }),
    hyperparameters: options.hyperparameters ?? {},
    table: requestTable(profile),
    device: { name: profile.name, origin: profile.origin },
    ...(calibration === undefined ? {} : { calibration: calibratedWeights(calibration) }),
    ...(price === undefined ? {} : { price }),
  };
}

const PRICE_OPTIONS = [
  ["latencyTargetNs", "latency"],
  ["qualityTarget", "quality"],
  ["pricePerNs", "fixed"],
] as const;

/** Whether a price decides, so that a calibration is needed. */
export function needsCalibration(options: SelectionOptions): boolean {
  return options.balance === "one-price" || givenPrices(options).length > 0;
}

/** Whether a calibration is looked for: also where it would only do better with one. */
export function usesCalibration(options: SelectionOptions): boolean {
  const { policy, sparsity = DEFAULT_SPARSITY, sparsities, balance } = options;
  if (needsCalibration(options)) return true;
  if (policy !== "lagrange" || balance === "equal-importance") return false;
  return sparsities === undefined && sparsity > 0;
}

function givenPrices(options: SelectionOptions) {
  return PRICE_OPTIONS.filter(([name]) => options[name] !== undefined);
}

function priceSettings(options: SelectionOptions, policy: PolicyName): PriceSettings | undefined {
  const given = givenPrices(options);
  requireBalance(options, policy, given.length > 0);
  if (given.length === 0) return sparsityPrice(options);
  const names = given.map(([name]) => name).join(" and ");
  if (policy !== "lagrange") {
    throw badOption(names, 'left out unless the policy is "lagrange"', policy);
  }
  if (given.length > 1) throw badOption(names, "given one at a time", "several");
  if (options.sparsities !== undefined) {
    throw badOption("sparsities", `left out with ${names}, which decides instead`, "given");
  }
  const [[name, kind]] = given;
  const value = options[name];
  if (!(value !== undefined && value > 0 && Number.isFinite(value))) {
    throw badOption(name, "a finite number above 0", value);
  }
  if (options.calibration === undefined) throw noCalibration(name);
  return { kind, value };
}

function requireBalance(
  { balance, sparsities }: SelectionOptions,
  policy: PolicyName,
  hasPrice: boolean,
): void {
  if (balance === undefined) return;
  if (balance !== "one-price" && balance !== "equal-importance") {
    throw badOption("balance", '"one-price" or "equal-importance"', balance);
  }
  const refuse = (expected: string): never => {
    throw badOption("balance", expected, balance);
  };
  if (policy !== "lagrange") refuse('left out unless the policy is "lagrange"');
  if (hasPrice) refuse("left out with a target or a price, which decides instead");
  if (balance === "one-price" && sparsities !== undefined) {
    refuse('"equal-importance" with sparsities, which decide for each matrix');
  }
}

/** The price that a sparsity comes to, where it comes to one. */
function sparsityPrice(options: SelectionOptions): PriceSettings | undefined {
  const { sparsity = DEFAULT_SPARSITY, calibration, balance } = options;
  if (!usesCalibration(options) || sparsity === 0) return undefined;
  const inputs = calibration?.inputs;
  if (inputs !== undefined && inputs.length > 0) {
    return { kind: "sparsity", value: sparsity, inputs };
  }
  if (balance !== "one-price") return undefined;
  if (calibration === undefined) throw noCalibration("balance one-price");
  throw new VlmExecutorError(
    "CALIBRATION_INVALID",
    "balance one-price needs a calibration with typical inputs, and this one was made without: make it again with `nchunk calibrate`, or use balance equal-importance.",
    { expected: "inputs" },
  );
}

function noCalibration(what: string): VlmExecutorError {
  return new VlmExecutorError(
    "CALIBRATION_MISSING",
    `${what} needs the calibration of this model: make it with \`nchunk calibrate\` (or VlmExecutor.measure), or use sparsity.`,
    { expected: "calibration" },
  );
}

function calibratedWeights({ bundles }: MeasuredCalibration): CalibratedWeights {
  return {
    weights: new Map(bundles.map(({ name, weight }) => [name, weight])),
    layers: new Set(bundles.map(({ layer }) => layer)).size,
  };
}

/** @internal */
export function badOption(name: string, expected: string, got: unknown): VlmExecutorError {
  return new VlmExecutorError(
    "INVALID_OPTION",
    `${name} must be ${expected}, not ${String(got)}.`,
    { expected, got },
  );
}
