import path from "node:path";
import {
  allocationPath,
  calibrationPath,
  readAllocations,
  readCalibration,
  requireSameModel,
  VlmExecutorError,
  type Balance,
  type SelectionOptions,
} from "@neuron-chunking/vlm-executor";
import { readManifest } from "@neuron-chunking/weight-store";
import { NchunkError } from "./errors";

/** Typed options about calibrations, of every verb that opens a model. */
export interface CalibratedOptions {
  model: string;
  policy: string;
  sparsity?: number;
  latencyTarget?: number;
  qualityTarget?: number;
  price?: number;
  balance?: Balance;
  calibration?: string;
  allocation?: string;
}

/** `--allocation teal`: the file that `nchunk calibrate` wrote with the calibration. */
const TEAL = "teal";
/** Sparsities as people type them. */
const SAME_SPARSITY = 1e-9;

/** `FILE.allocation.json` for `FILE.json`: where allocations go with a calibration that has a name of its own. */
export function allocationBeside(calibration: string): string {
  const { dir, name } = path.parse(calibration);
  return path.join(dir, `${name}.allocation.json`);
}

/** Throws INVALID_ARGUMENT, in the words of the command line, where options exclude each other. */
export function checkCombination(options: CalibratedOptions): void {
  const refuse = (message: string): never => {
    throw new NchunkError("INVALID_ARGUMENT", message);
  };
  const targets = [
    ...(options.latencyTarget === undefined ? [] : ["--latency-target"]),
    ...(options.qualityTarget === undefined ? [] : ["--quality-target"]),
    ...(options.price === undefined ? [] : ["--price"]),
  ];
  if (targets.length > 1) {
    refuse(`${targets.join(" and ")} exclude each other: give the one that shall decide.`);
  }
  const [target] = targets;
  if (target !== undefined) {
    if (options.policy !== "lagrange") {
      refuse(`${target} works with --policy lagrange only, not with ${options.policy}.`);
    }
    if (options.sparsity !== undefined || options.allocation !== undefined) {
      const other = options.sparsity === undefined ? "--allocation" : "--sparsity";
      refuse(`${target} decides how much is read; leave out ${other}.`);
    }
  }
  const { balance } = options;
  if (balance !== undefined) {
    if (options.policy !== "lagrange") {
      refuse(`--balance works with --policy lagrange only, not with ${options.policy}.`);
    }
    if (target !== undefined) refuse(`${target} is one price already; leave out --balance.`);
    if (balance === "one-price" && options.allocation !== undefined) {
      refuse("--allocation decides for each matrix; leave out --balance one-price.");
    }
  }
  if (options.allocation !== undefined && ["dense", "threshold"].includes(options.policy)) {
    refuse(
      `--allocation has no effect under --policy ${options.policy}; use topk, chunk or lagrange.`,
    );
  }
}

/**
 * What the typed options say about prices and allocations, with their files read.
 *
 * @throws NchunkError INVALID_ARGUMENT; VlmExecutorError CALIBRATION_MISSING, CALIBRATION_INVALID, CALIBRATION_MISMATCH
 */
export async function calibratedSelection(
  options: CalibratedOptions,
  imageDir: string,
): Promise<SelectionOptions> {
  const { latencyTarget, qualityTarget, price, calibration, allocation } = options;
  const isNeeded =
    (latencyTarget ?? qualityTarget ?? price) !== undefined || options.balance === "one-price";
  const file = calibration ?? (isNeeded ? calibrationPath(imageDir) : undefined);
  return withCommand(options.model, async () => ({
    ...(latencyTarget === undefined ? {} : { latencyTargetNs: latencyTarget }),
    ...(qualityTarget === undefined ? {} : { qualityTarget }),
    ...(price === undefined ? {} : { pricePerNs: price }),
    ...(options.balance === undefined ? {} : { balance: options.balance }),
    ...(file === undefined ? {} : { calibration: await readCalibration(file) }),
    ...(allocation === undefined
      ? {}
      : { sparsities: await allocatedSparsities(options, allocation, imageDir) }),
  }));
}

/** Sparsities of an allocation file at the overall sparsity that was asked for. */
async function allocatedSparsities(
  { calibration, sparsity = 0.5 }: CalibratedOptions,
  allocation: string,
  imageDir: string,
): Promise<Readonly<Record<string, number>>> {
  const beside =
    calibration === undefined ? allocationPath(imageDir) : allocationBeside(calibration);
  const file = allocation === TEAL ? beside : allocation;
  const { model, allocations } = await readAllocations(file);
  requireSameModel(model, await readManifest(imageDir), imageDir);
  const found = allocations.find((entry) => Math.abs(entry.sparsity - sparsity) < SAME_SPARSITY);
  if (found !== undefined) return found.sparsities;
  const known = allocations.map((entry) => entry.sparsity).join(", ");
  throw new NchunkError(
    "INVALID_ARGUMENT",
    `${file} has no allocation for a sparsity of ${sparsity}, but for ${known}. ` +
      `Give one of them, or run \`nchunk calibrate --sparsity ${sparsity}\`.`,
  );
}

/** Where a file is missing, says which command makes it for this very model. */
async function withCommand<T>(model: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (cause) {
    if (!(cause instanceof VlmExecutorError && cause.code === "CALIBRATION_MISSING")) throw cause;
    throw new VlmExecutorError(
      cause.code,
      cause.message.replace("--model DIR", `--model ${model}`),
      { ...(cause.path === undefined ? {} : { path: cause.path }), cause },
    );
  }
}
