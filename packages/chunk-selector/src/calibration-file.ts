import { allocateSparsity, type SparsityCurve } from "./allocate.js";
import { FileFields, parseFileText } from "./calibration-file-fields.js";

/** Raised with every change that an older reader would misunderstand. */
export const CALIBRATION_SCHEMA_VERSION = 1;
const CALIBRATION_KIND = "neuron-chunking/calibration";
const ALLOCATION_KIND = "neuron-chunking/sparsity-allocation";
const REMEDY = "Make it again with `nchunk calibrate`.";

/** A matrix whose loss was not felt at all still has some worth, or any price would drop it whole. */
const MIN_WEIGHT = 1e-6;
/** Decimals of sparsities and errors in an allocation: finer than one row of any matrix. */
const FILE_DECIMALS = 6;

/** The model that a file is about. Files are refused for another one. */
export interface CalibratedModel {
  /** SHA-256, hex, over the names, sizes and hashes of the checkpoint's config.json and weight files. */
  readonly identity: string;
  /** Family of its decoder, such as `llava_onevision`. */
  readonly type: string;
  /** Whether projections that share an input are stored as one matrix. */
  readonly bundled: boolean;
}

/** What one sparsified matrix did to its layer's output, as a mean over the measured passes. */
export interface SensitivityPoint {
  /** Share of the rows left out, the least important ones, in (0, 1]. */
  readonly sparsity: number;
  /** Share of the input's importance that those rows held, in [0, 1]. */
  readonly lostShare: number;
  /** `|y - y_dense| / |y_dense|`, L2 over all tokens and channels of the layer's output. */
  readonly error: number;
}

/** Importance of one matrix's input over all samples. */
export interface ImportanceStatistics {
  /** Mean over samples of `sum(v)`. */
  readonly total: number;
  /** Mean over samples of `std(v) / mean(v)`, the coefficient of variation. */
  readonly cv: number;
  /** Mean over samples of the quantiles of `v / mean(v)` at `probabilities`. */
  readonly quantiles: { readonly probabilities: number[]; readonly values: number[] };
}

/** One stored matrix of a calibrated model. */
export interface CalibratedBundle {
  /** `layers.3.mlp_in` */
  readonly name: string;
  readonly layer: number;
  readonly rows: number;
  readonly rowBytes: number;
  /** Passes that were counted; each is one sample, as in paper section 3.3. */
  readonly samples: number;
  readonly importance: ImportanceStatistics;
  /** By original input channel, `[rows]`: samples in which it was in the top 50 % by importance. */
  readonly activeCounts: number[];
  /** `w`: relative error of the layer's output per share of importance lost; above 0. See {@link weightOf}. */
  readonly weight: number;
  /** `weight / importance.total`: the same per unit of importance, at the calibration set's mean. */
  readonly weightPerImportance: number;
  /** The measurements behind `weight`, by ascending sparsity. */
  readonly points: readonly SensitivityPoint[];
}

/** What the calibration was made from. */
export interface CalibrationSource {
  readonly prompts: number;
  readonly passes: number;
  /** Passes whose layers were run again with one matrix sparsified. */
  readonly measuredPasses: number;
  readonly tokens: number;
}

/** Statistics and weights of one model's stored matrices: what one price for the whole model needs. */
export interface Calibration {
  readonly kind: typeof CALIBRATION_KIND;
  readonly schemaVersion: typeof CALIBRATION_SCHEMA_VERSION;
  readonly model: CalibratedModel;
  readonly source: CalibrationSource;
  readonly bundles: readonly CalibratedBundle[];
}

/** Sparsities for every stored matrix at one overall sparsity. */
export interface StoredAllocation {
  /** Share of the model's streamed bytes left out, as asked for. */
  readonly sparsity: number;
  /** Mean over layers of the estimated relative error of a layer's output. */
  readonly error: number;
  /** By name of the stored matrix. */
  readonly sparsities: Readonly<Record<string, number>>;
}

/** TEAL's allocations, made from a calibration, by ascending overall sparsity. */
export interface SparsityAllocationFile {
  readonly kind: typeof ALLOCATION_KIND;
  readonly schemaVersion: typeof CALIBRATION_SCHEMA_VERSION;
  readonly model: CalibratedModel;
  readonly method: "teal-greedy";
  readonly allocations: readonly StoredAllocation[];
}

/** Puts a calibration together. */
export function createCalibration(
  content: Pick<Calibration, "model" | "source" | "bundles">,
): Calibration {
  return { kind: CALIBRATION_KIND, schemaVersion: CALIBRATION_SCHEMA_VERSION, ...content };
}

/** Puts a file of allocations together. */
function createAllocationFile(
  content: Pick<SparsityAllocationFile, "model" | "allocations">,
): SparsityAllocationFile {
  const { model, allocations } = content;
  return {
    kind: ALLOCATION_KIND,
    schemaVersion: CALIBRATION_SCHEMA_VERSION,
    model,
    method: "teal-greedy",
    allocations,
  };
}

/**
 * TEAL's greedy allocations from the errors that a calibration measured, one for each overall sparsity, ascending.
 *
 * @param overallSparsities Each in [0, 1], at least one.
 * @throws ChunkSelectorError `INVALID_REQUEST`.
 */
export function tealAllocations(
  calibration: Calibration,
  overallSparsities: readonly number[],
): SparsityAllocationFile {
  const curves = sparsityCurves(calibration);
  const ascending = [...new Set(overallSparsities)].sort((a, b) => a - b);
  const allocations = ascending.map((sparsity): StoredAllocation => {
    const { error, sparsities } = allocateSparsity(curves, sparsity);
    const rounded = Object.entries(sparsities).map(([name, value]) => [name, round(value)]);
    return {
      sparsity,
      error: round(error),
      sparsities: Object.fromEntries(rounded) as Record<string, number>,
    };
  });
  return createAllocationFile({ model: calibration.model, allocations });
}

function round(value: number): number {
  return Number(value.toFixed(FILE_DECIMALS));
}

/**
 * The weight of lost importance: the slope of the least-squares line through the origin of error against lost
 * share, `w = sum(lostShare * error) / sum(lostShare^2)`, at least 1e-6. All points count, total loss too: with one
 * price, what seems cheap to lose is lost to a large part, and a slope that held for small losses only would take whole
 * matrices for next to nothing.
 */
export function weightOf(points: readonly SensitivityPoint[]): number {
  let products = 0;
  let squares = 0;
  for (const { lostShare, error } of points) {
    products += lostShare * error;
    squares += lostShare * lostShare;
  }
  return squares > 0 ? Math.max(MIN_WEIGHT, products / squares) : MIN_WEIGHT;
}

/** The curves that {@link allocateSparsity} takes, one group for each layer. */
export function sparsityCurves(calibration: Calibration): SparsityCurve[] {
  return calibration.bundles.map(({ name, layer, rows, rowBytes, points }) => ({
    name,
    group: layer,
    sizeBytes: rows * rowBytes,
    points,
  }));
}

/**
 * Checks a parsed calibration of any origin (also described by `schema/calibration.schema.json`).
 *
 * @returns A copy; fields that version 1 does not know are dropped.
 * @throws ChunkSelectorError `INVALID_REQUEST` whose `path` names the first field that is wrong.
 */
export function parseCalibration(json: unknown): Calibration {
  const root = FileFields.of(json, "calibration", REMEDY);
  root.constant("kind", CALIBRATION_KIND);
  root.constant("schemaVersion", CALIBRATION_SCHEMA_VERSION);
  const source = root.object("source");
  return createCalibration({
    model: parseModel(root.object("model")),
    source: {
      prompts: source.integer("prompts", 1),
      passes: source.integer("passes", 1),
      measuredPasses: source.integer("measuredPasses", 1),
      tokens: source.integer("tokens", 1),
    },
    bundles: root.objects("bundles").map(parseBundle),
  });
}

/** {@link parseCalibration} for the text of a file. @throws also when it is not JSON */
export function parseCalibrationText(text: string): Calibration {
  return parseCalibration(parseFileText(text, "calibration", REMEDY));
}

/**
 * Checks parsed allocations of any origin (also described by `schema/sparsity-allocation.schema.json`).
 *
 * @throws ChunkSelectorError `INVALID_REQUEST` whose `path` names the first field that is wrong.
 */
export function parseAllocationFile(json: unknown): SparsityAllocationFile {
  const root = FileFields.of(json, "allocation", REMEDY);
  root.constant("kind", ALLOCATION_KIND);
  root.constant("schemaVersion", CALIBRATION_SCHEMA_VERSION);
  root.constant("method", "teal-greedy");
  return createAllocationFile({
    model: parseModel(root.object("model")),
    allocations: root.objects("allocations").map((fields) => ({
      sparsity: fields.number("sparsity", 0, 1),
      error: fields.number("error", 0),
      sparsities: fields.numbersByName("sparsities", 0, 1),
    })),
  });
}

/** {@link parseAllocationFile} for the text of a file. @throws also when it is not JSON */
export function parseAllocationFileText(text: string): SparsityAllocationFile {
  return parseAllocationFile(parseFileText(text, "allocation", REMEDY));
}

function parseModel(fields: FileFields): CalibratedModel {
  return {
    identity: fields.text("identity", /^[0-9a-f]{64}$/),
    type: fields.text("type"),
    bundled: fields.boolean("bundled"),
  };
}

function parseBundle(fields: FileFields): CalibratedBundle {
  const rows = fields.integer("rows", 1);
  const samples = fields.integer("samples", 1);
  const activeCounts = fields.numbers("activeCounts", 0, samples);
  if (activeCounts.length !== rows) throw fields.fail("activeCounts", `a list of ${rows} counts`);
  return {
    name: fields.text("name"),
    layer: fields.integer("layer", 0),
    rows,
    rowBytes: fields.integer("rowBytes", 1),
    samples,
    importance: parseImportance(fields.object("importance")),
    activeCounts,
    weight: fields.positive("weight"),
    weightPerImportance: fields.number("weightPerImportance", 0),
    points: parsePoints(fields),
  };
}

function parseImportance(fields: FileFields): ImportanceStatistics {
  const quantiles = fields.object("quantiles");
  const probabilities = quantiles.numbers("probabilities", 0, 1);
  const values = quantiles.numbers("values", 0);
  if (values.length !== probabilities.length) {
    throw quantiles.fail("values", `a list of ${probabilities.length} values`);
  }
  return {
    total: fields.number("total", 0),
    cv: fields.number("cv", 0),
    quantiles: { probabilities, values },
  };
}

function parsePoints(bundle: FileFields): SensitivityPoint[] {
  let last = 0;
  return bundle.objects("points").map((fields) => {
    const sparsity = fields.number("sparsity", 0, 1);
    if (sparsity <= last) throw fields.fail("sparsity", `above ${last}, the one before`);
    last = sparsity;
    return {
      sparsity,
      lostShare: fields.number("lostShare", 0, 1),
      error: fields.number("error", 0),
    };
  });
}
