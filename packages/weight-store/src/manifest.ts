import { join } from "node:path";
import type { BundleDType, DType } from "./dtype.js";
import { WeightStoreError } from "./errors.js";
import type { DecoderShape, ModelShape, VisionShape } from "./families/shapes.js";
import { writeDurably } from "./files.js";
import { BUNDLE_KINDS, type BundleKind } from "./image-plan.js";
import { Fields, readJsonObject } from "./json-fields.js";
import {
  GROUP_SIZES,
  QUANTISED_DTYPES,
  quantisedRowLayout,
  type GroupSize,
  type QuantisationError,
} from "./quantised-row.js";

export const MANIFEST_FILE = "manifest.json";
export const FLASH_FILE = "flash.safetensors";
export const RESIDENT_FILE = "resident.safetensors";
const FORMAT = "neuron-chunking/flash-image";
/** The newest version this release reads. Raised with every change that an older reader would misunderstand. */
export const SCHEMA_VERSION = 2;
/** Images without quantised rows are written as before them, for older releases to read. */
const SCHEMA_VERSION_UNQUANTISED = 1;

/** A file by name, size and content. */
export interface HashedFile {
  name: string;
  sizeBytes: number;
  /** Lower-case hex. */
  sha256: string;
}

/** A file of the checkpoint an image was made from. */
export interface SourceFile extends HashedFile {
  /** Modification time at conversion, ms since the epoch; equal size and time spare hashing the file again. */
  mtimeMs: number;
}

/** Columns of a bundle's rows that belong to one projection. */
export interface BundlePart {
  /** "q_proj", "gate_proj", ... */
  name: string;
  /** First column within a row, elements. */
  columnOffset: number;
  /** Elements. */
  columns: number;
}

export interface ManifestBundle {
  /** "layers.3.mlp_in" */
  name: string;
  kind: BundleKind;
  layer: number;
  /** Of row 0, bytes from the start of the flash file; a multiple of 4096. */
  offsetBytes: number;
  /** Input channels. */
  rows: number;
  rowBytes: number;
  dtype: BundleDType;
  /** Of "int8" and "int4": neighbouring columns that share a scale. */
  groupSize?: GroupSize;
  parts: BundlePart[];
  /** Of the rows * rowBytes bytes. */
  sha256: string;
  /** Of "int8" and "int4": what the weights were, and what it cost to leave that. */
  quantisedFrom?: { dtype: SourceDType; error: QuantisationError };
  /** Present when rows are stored in another order than the checkpoint's channels. */
  permutation?: {
    /** U32 tensor in the resident file: entry i is the original channel of stored row i. */
    tensor: string;
    /** The producer of this input delivers it in stored order; nothing is gathered at run time. */
    folded: boolean;
  };
}

export interface ManifestTensor {
  name: string;
  dtype: DType;
  shape: number[];
  /** Bytes from the start of the resident file. */
  offsetBytes: number;
  lengthBytes: number;
  sha256: string;
}

/** What a flash image holds and where: the parsed and checked `manifest.json`. */
export interface Manifest {
  format: typeof FORMAT;
  schemaVersion: 1 | 2;
  bundled: boolean;
  model: ModelShape;
  source: { files: SourceFile[]; optionsSha256: string; ignoredTensors: string[] };
  flash: { file: string; sizeBytes: number; bundles: ManifestBundle[] };
  resident: { file: string; sizeBytes: number; tensors: ManifestTensor[] };
  /** config.json, tokenizer and processor files, as in the checkpoint. */
  files: HashedFile[];
}

/** The manifest's constant part, for the converter. */
export function manifestHead(quantised: boolean): Pick<Manifest, "format" | "schemaVersion"> {
  return {
    format: FORMAT,
    schemaVersion: quantised ? SCHEMA_VERSION : SCHEMA_VERSION_UNQUANTISED,
  };
}

const MOST = Number.MAX_SAFE_INTEGER;
type SourceDType = Exclude<DType, "u32">;
const DTYPES: readonly SourceDType[] = ["f32", "bf16", "f16"];

/**
 * Reads and checks `manifest.json` of an image without opening anything else: enough to plan memory and reads.
 * @throws WeightStoreError NOT_FOUND, INVALID_MANIFEST naming the field, UNSUPPORTED_VERSION.
 */
export async function readManifest(dir: string): Promise<Manifest> {
  const path = join(dir, MANIFEST_FILE);
  return parseManifest(await readJsonObject(path, "INVALID_MANIFEST"), path);
}

/** Writes `manifest.json` durably and at once. */
export async function writeManifest(dir: string, manifest: Manifest): Promise<void> {
  await writeDurably(join(dir, MANIFEST_FILE), `${JSON.stringify(manifest, null, 1)}\n`);
}

/** Checks a parsed manifest; `path` serves the error messages. */
export function parseManifest(values: Record<string, unknown>, path = MANIFEST_FILE): Manifest {
  const fields = new Fields(values, path, "INVALID_MANIFEST");
  if (fields.string("format") !== FORMAT) fields.fail("format", FORMAT, values["format"]);
  const version = fields.integer("schemaVersion", 1, MOST);
  if (version > SCHEMA_VERSION) {
    throw new WeightStoreError(
      "UNSUPPORTED_VERSION",
      `${path} has schema version ${version}; this release reads versions up to ${SCHEMA_VERSION}. ` +
        `Update to the release that wrote it, or convert the checkpoint again with this one.`,
      { path, expected: SCHEMA_VERSION, got: version },
    );
  }
  const quantisable = version !== SCHEMA_VERSION_UNQUANTISED;
  const source = fields.object("source");
  const flash = fields.object("flash");
  const resident = fields.object("resident");
  return {
    ...manifestHead(quantisable),
    bundled: fields.boolean("bundled"),
    model: parseModel(fields.object("model")),
    source: {
      files: source.objects("files").map((file) => ({
        ...parseFile(file),
        mtimeMs: file.number("mtimeMs"),
      })),
      optionsSha256: source.string("optionsSha256"),
      ignoredTensors: source.array("ignoredTensors").map(String),
    },
    flash: {
      file: plainName(flash, "file"),
      sizeBytes: flash.integer("sizeBytes", 0, MOST),
      bundles: flash.objects("bundles").map((bundle) => parseBundle(bundle, quantisable)),
    },
    resident: {
      file: plainName(resident, "file"),
      sizeBytes: resident.integer("sizeBytes", 0, MOST),
      tensors: resident.objects("tensors").map(parseTensor),
    },
    files: fields.objects("files").map(parseFile),
  };
}

/** A file beside the manifest: nothing in an image may lead out of its directory. */
function plainName(fields: Fields, name: string): string {
  const value = fields.string(name);
  if (/^[^/\\\0]+$/.test(value) && value !== "." && value !== "..") return value;
  return fields.fail(name, "a plain file name", value);
}

function parseFile(fields: Fields): HashedFile {
  return {
    name: plainName(fields, "name"),
    sizeBytes: fields.integer("sizeBytes", 0, MOST),
    sha256: sha256Of(fields),
  };
}

function sha256Of(fields: Fields): string {
  const value = fields.string("sha256");
  return /^[0-9a-f]{64}$/.test(value) ? value : fields.fail("sha256", "64 hex digits", value);
}

function parseModel(fields: Fields): ModelShape {
  const size = (from: Fields, name: string) => from.integer(name, 1, MOST);
  const decoder = fields.object("decoder");
  const model: ModelShape = {
    family: fields.string("family"),
    decoder: {
      layers: size(decoder, "layers"),
      hiddenSize: size(decoder, "hiddenSize"),
      intermediateSize: size(decoder, "intermediateSize"),
      heads: size(decoder, "heads"),
      kvHeads: size(decoder, "kvHeads"),
      headDim: size(decoder, "headDim"),
      vocabSize: size(decoder, "vocabSize"),
      qkvBias: decoder.boolean("qkvBias"),
      outputBias: decoder.boolean("outputBias"),
      tieWordEmbeddings: decoder.boolean("tieWordEmbeddings"),
    } satisfies DecoderShape,
  };
  if (fields.has("vision")) {
    const vision = fields.object("vision");
    model.vision = {
      layers: size(vision, "layers"),
      hiddenSize: size(vision, "hiddenSize"),
      intermediateSize: size(vision, "intermediateSize"),
      channels: size(vision, "channels"),
      imageSize: size(vision, "imageSize"),
      patchSize: size(vision, "patchSize"),
    } satisfies VisionShape;
  }
  if (fields.has("projector")) {
    const projector = fields.object("projector");
    model.projector = {
      inputSize: size(projector, "inputSize"),
      bias: projector.boolean("bias"),
    };
  }
  return model;
}

function parseBundle(fields: Fields, quantisable: boolean): ManifestBundle {
  const bundle: ManifestBundle = {
    name: fields.string("name"),
    kind: fields.oneOf("kind", BUNDLE_KINDS),
    layer: fields.integer("layer", 0, MOST),
    offsetBytes: fields.integer("offsetBytes", 0, MOST),
    rows: fields.integer("rows", 1, MOST),
    rowBytes: fields.integer("rowBytes", 1, MOST),
    dtype: fields.oneOf("dtype", quantisable ? [...DTYPES, ...QUANTISED_DTYPES] : DTYPES),
    parts: fields.objects("parts").map((part) => ({
      name: part.string("name"),
      columnOffset: part.integer("columnOffset", 0, MOST),
      columns: part.integer("columns", 1, MOST),
    })),
    sha256: sha256Of(fields),
  };
  parseQuantisation(fields, bundle);
  if (fields.has("permutation")) {
    const permutation = fields.object("permutation");
    bundle.permutation = {
      tensor: permutation.string("tensor"),
      folded: permutation.boolean("folded"),
    };
  }
  return bundle;
}

/** The fields that quantised bundles have and others have not, and a row size that follows from them. */
function parseQuantisation(fields: Fields, bundle: ManifestBundle): void {
  const { dtype, parts, rowBytes } = bundle;
  if (dtype !== "int8" && dtype !== "int4") {
    for (const name of ["groupSize", "quantisedFrom"]) {
      if (fields.has(name)) fields.fail(name, `absent from ${dtype} bundles`, fields.values[name]);
    }
    return;
  }
  const found = fields.integer("groupSize", 1, MOST);
  const groupSize = GROUP_SIZES.find((size) => size === found);
  if (groupSize === undefined) fields.fail("groupSize", `one of ${GROUP_SIZES.join(", ")}`, found);
  else {
    const columns = parts.reduce((sum, part) => sum + part.columns, 0);
    const needed = quantisedRowLayout({ dtype, groupSize }, columns).rowBytes;
    if (rowBytes !== needed) {
      const what = `${needed}, of ${columns} columns of ${dtype} in groups of ${groupSize}`;
      fields.fail("rowBytes", what, rowBytes);
    }
    bundle.groupSize = groupSize;
  }
  const from = fields.object("quantisedFrom");
  const error = from.object("error");
  bundle.quantisedFrom = {
    dtype: from.oneOf("dtype", DTYPES),
    error: { mean: error.number("mean"), worst: error.number("worst") },
  };
}

function parseTensor(fields: Fields): ManifestTensor {
  return {
    name: fields.string("name"),
    dtype: fields.oneOf("dtype", [...DTYPES, "u32"] as const),
    shape: fields.integers("shape", 0, MOST),
    offsetBytes: fields.integer("offsetBytes", 0, MOST),
    lengthBytes: fields.integer("lengthBytes", 0, MOST),
    sha256: sha256Of(fields),
  };
}
