import { join } from "node:path";
import { FlashReader } from "@neuron-chunking/flash-reader";
import type { ReaderTuning } from "@neuron-chunking/latency-model";
import { DTYPE_BYTES, safetensorsDType, type BundleDType } from "./dtype.js";
import { WeightStoreError } from "./errors.js";
import { readJsonObject } from "./json-fields.js";
import { readManifest, type BundlePart, type Manifest, type ManifestBundle } from "./manifest.js";
import { requirePermutation } from "./permutation.js";
import { ResidentTensors, type TensorView } from "./resident-tensors.js";
import { readSafetensorsHeader, type SafetensorsHeader } from "./safetensors.js";
import type { BundleKind } from "./image-plan.js";
import type { GroupSize } from "./quantised-row.js";

/** One bundle of a flash image: matrix [rows, columns], row i at offsetBytes + i * rowBytes of the flash file. */
export interface BundleInfo {
  /** "layers.3.mlp_in" */
  readonly name: string;
  readonly kind: BundleKind;
  readonly layer: number;
  /** Of row 0, bytes from the start of the flash file; a multiple of 4096. */
  readonly offsetBytes: number;
  /** Input channels K. */
  readonly rows: number;
  readonly rowBytes: number;
  /** Of the weights; rows of "int8" and "int4" are `[quants][scales]`, see the README. */
  readonly dtype: BundleDType;
  /** Of "int8" and "int4": neighbouring columns that share a scale. */
  readonly groupSize?: GroupSize;
  /** Projections side by side in each row, in column order. */
  readonly parts: readonly BundlePart[];
  /**
   * Set when the input must be gathered before use: permutation[stored row] = original channel. Absent for bundles in
   * original order and for those whose producer already delivers stored order.
   */
  readonly permutation?: Uint32Array;
  /** storedOrder[stored row] = original channel, for every reordered bundle, gathered or not. */
  readonly storedOrder?: Uint32Array;
}

export interface OpenFlashImageOptions {
  /** As in FlashReader.open (default "optional"). */
  directIo?: "required" | "optional" | "disabled" | undefined;
  /** How to drive the device, as in FlashReader.open: `reader.tuning` of its profile. */
  tuning?: Partial<ReaderTuning> | undefined;
  /** "eager" (default) reads every resident tensor now, "lazy" each one, synchronously, when first asked for. */
  resident?: "eager" | "lazy" | undefined;
  /** Bytes of resident tensors read so far and in all. */
  onProgress?: ((bytesDone: number, bytesTotal: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** An open flash image: its manifest, a reader on its flash file, its resident tensors. Close it when done. */
export class FlashImage {
  private readonly bundlesByName: ReadonlyMap<string, BundleInfo>;

  /** @internal Use openFlashImage. */
  constructor(
    /** Directory of the image. */
    readonly dir: string,
    readonly manifest: Manifest,
    /** config.json of the checkpoint, parsed. */
    readonly config: Readonly<Record<string, unknown>>,
    /** Reads the rows of bundles; owned by the image. */
    readonly reader: FlashReader,
    /** Every bundle, layer by layer. */
    readonly bundles: readonly BundleInfo[],
    private readonly tensors: ResidentTensors,
  ) {
    this.bundlesByName = new Map(bundles.map((bundle) => [bundle.name, bundle]));
  }

  /** @throws WeightStoreError INVALID_ARGUMENT for a name the image does not have. */
  bundle(name: string): BundleInfo {
    const bundle = this.bundlesByName.get(name);
    if (bundle !== undefined) return bundle;
    const known = this.bundles.slice(0, 7).map((candidate) => candidate.name);
    throw new WeightStoreError(
      "INVALID_ARGUMENT",
      `${this.dir} has no bundle ${name}; its bundles are called ${known.join(", ")}, ...`,
      { path: this.dir, name },
    );
  }

  /** Whether the image has a resident tensor of this canonical name: no `lm_head.weight` means a tied head. */
  hasResident(name: string): boolean {
    return this.tensors.has(name);
  }

  /** Canonical names of the resident tensors, in file order. */
  residentNames(): string[] {
    return this.tensors.names();
  }

  /**
   * A resident tensor in HF layout and the checkpoint's dtype. The bytes are shared by all callers: do not write to them.
   * They start on a multiple of the element size.
   * @throws WeightStoreError MISSING_TENSOR for a name the image does not have; CLOSED after close.
   */
  resident(name: string): TensorView {
    return this.tensors.get(name);
  }

  /** Closes the files and drops the resident tensors. Views handed out before stay valid. */
  async close(): Promise<void> {
    this.tensors.close();
    await this.reader.close();
  }
}

/**
 * Opens a flash image and checks that manifest and files agree: sizes, offsets, shapes, dtypes. Contents are not hashed
 * here; verifyFlashImage does that.
 * @throws WeightStoreError NOT_FOUND, INVALID_MANIFEST, UNSUPPORTED_VERSION, and those of readSafetensorsHeader;
 *   FlashReaderError when the flash file cannot be opened as asked.
 */
export async function openFlashImage(
  dir: string,
  options: OpenFlashImageOptions = {},
): Promise<FlashImage> {
  const manifest = await readManifest(dir);
  const flashPath = join(dir, manifest.flash.file);
  const residentPath = join(dir, manifest.resident.file);
  checkFlash(manifest, await readSafetensorsHeader(flashPath));
  checkResident(manifest, await readSafetensorsHeader(residentPath));
  const config = await readJsonObject(join(dir, "config.json"), "INVALID_CONFIG");
  const tensors = new ResidentTensors(residentPath, manifest.resident.tensors);
  const readerOptions = {
    ...(options.directIo === undefined ? {} : { directIo: options.directIo }),
    ...(options.tuning === undefined ? {} : { tuning: options.tuning }),
  };
  const reader = await FlashReader.open(flashPath, readerOptions);
  try {
    if (options.resident !== "lazy") {
      await tensors.load(readerOptions, options.onProgress, options.signal);
    }
    const bundles = manifest.flash.bundles.map((bundle) => bundleInfo(bundle, tensors));
    return new FlashImage(dir, manifest, config, reader, bundles, tensors);
  } catch (error) {
    await reader.close();
    throw error;
  }
}

function bundleInfo(bundle: ManifestBundle, tensors: ResidentTensors): BundleInfo {
  const { name, kind, layer, offsetBytes, rows, rowBytes, dtype, parts, permutation } = bundle;
  const { groupSize } = bundle;
  const info = {
    ...{ name, kind, layer, offsetBytes, rows, rowBytes, dtype, parts },
    ...(groupSize === undefined ? {} : { groupSize }),
  };
  if (permutation === undefined) return info;
  const { bytes } = tensors.get(permutation.tensor);
  const storedOrder = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  requirePermutation(storedOrder, rows, name);
  return permutation.folded
    ? { ...info, storedOrder }
    : { ...info, storedOrder, permutation: storedOrder };
}

function checkFlash(manifest: Manifest, header: SafetensorsHeader): void {
  requireEqual(header.path, "its size", manifest.flash.sizeBytes, header.fileBytes);
  for (const bundle of manifest.flash.bundles) {
    const { name, dtype, rows, rowBytes, parts } = bundle;
    const columns = parts.reduce((sum, part) => sum + part.columns, 0);
    // The row size of quantised rows was checked with the manifest; to other tools they are bytes.
    const quantised = dtype === "int8" || dtype === "int4";
    const neededBytes = quantised ? rowBytes : columns * DTYPE_BYTES[dtype];
    const expected = {
      dtype: safetensorsDType(quantised ? "u8" : dtype),
      shape: [rows, quantised ? rowBytes : columns],
      offsetBytes: bundle.offsetBytes,
      lengthBytes: rows * neededBytes,
    };
    requireEqual(header.path, name, expected, found(header, name));
    requireEqual(header.path, `rowBytes of ${name}`, rowBytes, neededBytes);
    const offsets = parts.map(({ columnOffset }) => columnOffset);
    const ends = parts.map(({ columns: width }, index) => offsets[index] + width);
    requireEqual(header.path, `parts of ${name}`, [0, ...ends.slice(0, -1)], offsets);
  }
}

function checkResident(manifest: Manifest, header: SafetensorsHeader): void {
  requireEqual(header.path, "its size", manifest.resident.sizeBytes, header.fileBytes);
  for (const { name, dtype, shape, offsetBytes, lengthBytes } of manifest.resident.tensors) {
    const expected = { dtype: safetensorsDType(dtype), shape, offsetBytes, lengthBytes };
    requireEqual(header.path, name, expected, found(header, name));
  }
}

function found(header: SafetensorsHeader, name: string): unknown {
  const entry = header.tensors.get(name);
  if (entry === undefined) return undefined;
  const { shape, offsetBytes, lengthBytes } = entry;
  return { dtype: entry.dtype, shape, offsetBytes, lengthBytes };
}

function requireEqual(path: string, what: string, expected: unknown, got: unknown): void {
  if (JSON.stringify(expected) === JSON.stringify(got)) return;
  throw new WeightStoreError(
    "INVALID_MANIFEST",
    `manifest.json and ${path} disagree on ${what}: ${JSON.stringify(expected)} against ${JSON.stringify(got)}. ` +
      `Convert the checkpoint again.`,
    { path, name: what, expected, got },
  );
}
