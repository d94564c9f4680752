import { createHash } from "node:crypto";
import { open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  ChunkSelectorError,
  parseAllocationFileText,
  parseCalibration,
  parseCalibrationText,
} from "@neuron-chunking/chunk-selector";
import type { CalibratedModel, SparsityAllocationFile } from "@neuron-chunking/chunk-selector";
import type { BundleInfo, FlashImage, Manifest } from "@neuron-chunking/weight-store";
import { VlmExecutorError } from "../errors.js";
import { needsCalibration, usesCalibration } from "../selection/settings.js";
import type { SelectionOptions } from "../selection/settings.js";
import { parseTypicalInputs } from "./typical-inputs.js";
import type { MeasuredCalibration } from "./typical-inputs.js";

/** Where a calibration and the allocations made from it lie in a flash image. */
const CALIBRATION_FILE = "calibration.json";
const ALLOCATION_FILE = "sparsity-allocation.json";

/** Where the calibration of the image in `dir` is looked for unless one is given. */
export const calibrationPath = (dir: string): string => join(dir, CALIBRATION_FILE);
/** Where the sparsity allocations of the image in `dir` are looked for unless some are given. */
export const allocationPath = (dir: string): string => join(dir, ALLOCATION_FILE);

/** What a calibration of this image is about: the same for images of one checkpoint in any row order. */
export function calibratedModel({ model, bundled, source }: Manifest): CalibratedModel {
  const hash = createHash("sha256");
  const decisive = source.files
    .filter(({ name }) => name === "config.json" || name.endsWith(".safetensors"))
    .map(({ name, sizeBytes, sha256 }) => [name, sizeBytes, sha256]);
  hash.update(JSON.stringify(decisive.sort(([a], [b]) => (a < b ? -1 : 1))));
  return { identity: hash.digest("hex"), type: model.family, bundled };
}

/**
 * Reads a calibration.
 *
 * @throws VlmExecutorError `CALIBRATION_MISSING`, or `CALIBRATION_INVALID` naming the field
 */
export async function readCalibration(path: string): Promise<MeasuredCalibration> {
  return readChecked(path, "calibration", parseMeasured);
}

/** Parsed once: a large model's has some megabytes. */
function parseMeasured(text: string): MeasuredCalibration {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // Says what is wrong with it.
    return parseCalibrationText(text);
  }
  const inputs = parseTypicalInputs(json);
  return { ...parseCalibration(json), ...(inputs === undefined ? {} : { inputs }) };
}

/**
 * The calibration that an image is opened with: the one given, else the image's own where the options need one, or do better
 * with one. One that is not needed and not there, damaged or another model's is no reason not to open the model.
 *
 * @throws VlmExecutorError `CALIBRATION_MISSING`, `CALIBRATION_INVALID`, `CALIBRATION_MISMATCH`
 */
export async function calibrationFor(
  { dir, manifest, bundles }: Pick<FlashImage, "dir" | "manifest" | "bundles">,
  options: SelectionOptions,
): Promise<MeasuredCalibration | undefined> {
  if (options.calibration === undefined && !usesCalibration(options)) return undefined;
  try {
    const calibration = options.calibration ?? (await readCalibration(calibrationPath(dir)));
    requireSameModel(calibration.model, manifest, dir);
    requireSameBundles(new Set(calibration.bundles.map(({ name }) => name)), bundles, dir);
    return calibration;
  } catch (cause) {
    const isNeeded = options.calibration !== undefined || needsCalibration(options);
    const isAboutIt = cause instanceof VlmExecutorError && cause.code.startsWith("CALIBRATION_");
    if (isNeeded || !isAboutIt) throw cause;
    return undefined;
  }
}

/** Reads sparsity allocations. @throws as `readCalibration` */
export async function readAllocations(path: string): Promise<SparsityAllocationFile> {
  return readChecked(path, "sparsity allocation", parseAllocationFileText);
}

/**
 * Writes JSON files that belong together: each in full under another name, made durable, and only then renamed, so
 * that a failure on the way leaves the files that were there, or none.
 */
export async function writeTogether(
  files: readonly { readonly path: string; readonly content: object }[],
): Promise<void> {
  const parts = files.map(({ path, content }) => ({
    path,
    temporary: `${path}.${process.pid}.tmp`,
    text: `${JSON.stringify(content)}\n`,
  }));
  try {
    for (const { temporary, text } of parts) {
      const file = await open(temporary, "w");
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
    }
    for (const { temporary, path } of parts) await rename(temporary, path);
  } catch (cause) {
    await Promise.all(parts.map(({ temporary }) => rm(temporary, { force: true })));
    throw cause;
  }
}

/**
 * Refuses a file that was made for another checkpoint; how the image stores its rows makes no difference.
 *
 * @param about the `model` field of the file
 * @throws VlmExecutorError `CALIBRATION_MISMATCH`
 */
export function requireSameModel(about: CalibratedModel, manifest: Manifest, dir: string): void {
  const model = calibratedModel(manifest);
  const field = (["type", "identity"] as const).find((name) => about[name] !== model[name]);
  if (field === undefined) return;
  throw mismatch(
    `It was made for another checkpoint (${field} ${about[field]}, not ${model[field]}).`,
    {
      path: dir,
      expected: model[field],
      got: about[field],
    },
  );
}

/**
 * Refuses a file whose matrices are not those of the image: one that is bundled differently, above all.
 *
 * @param names by stored matrix
 * @throws VlmExecutorError `CALIBRATION_MISMATCH`
 */
export function requireSameBundles(
  names: ReadonlySet<string>,
  bundles: readonly Pick<BundleInfo, "name">[],
  dir: string,
): void {
  const missing = bundles.find(({ name }) => !names.has(name));
  if (missing === undefined && names.size === bundles.length) return;
  throw mismatch(
    missing === undefined
      ? `It holds ${names.size} matrices where this image stores ${bundles.length}.`
      : `It says nothing about ${missing.name}: it was made for an image with other bundles.`,
    { path: dir, ...(missing === undefined ? {} : { bundle: missing.name }) },
  );
}

function mismatch(reason: string, fields: object): VlmExecutorError {
  return new VlmExecutorError(
    "CALIBRATION_MISMATCH",
    `The calibration or sparsity allocation does not belong to this model. ${reason} Make one with \`nchunk calibrate\`.`,
    fields,
  );
}

async function readChecked<T>(path: string, what: string, parse: (text: string) => T): Promise<T> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new VlmExecutorError(
      "CALIBRATION_MISSING",
      code === "ENOENT"
        ? `There is no ${what} at ${path}. Make it with \`nchunk calibrate --model DIR --images DIR --text FILE\`.`
        : `The ${what} at ${path} cannot be read: ${(cause as Error).message}`,
      { path, ...(code === undefined ? {} : { errno: code }), cause },
    );
  }
  try {
    return parse(text);
  } catch (cause) {
    if (!(cause instanceof ChunkSelectorError)) throw cause;
    throw new VlmExecutorError("CALIBRATION_INVALID", `${path}: ${cause.message}`, {
      path,
      expected: cause.expected,
      got: cause.got,
      cause,
    });
  }
}
