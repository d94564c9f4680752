import { readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { weightDType, type DType } from "./dtype.js";
import { WeightStoreError, withFileErrors } from "./errors.js";
import { familyOf } from "./families/index.js";
import { isUnused, type Family } from "./families/family.js";
import type { ModelShape } from "./families/shapes.js";
import { MAX_TENSORS } from "./header-parser.js";
import { Fields, isObject, readJsonObject } from "./json-fields.js";
import {
  readSafetensorsHeader,
  type SafetensorsEntry,
  type SafetensorsHeader,
} from "./safetensors.js";

const SINGLE_FILE = "model.safetensors";
const INDEX_FILE = "model.safetensors.index.json";
/** The most sharded public checkpoints have a few hundred files. */
const MAX_SHARDS = 4096;

/** A weight tensor and where its bytes are. */
export interface CheckpointTensor {
  /** Canonical name, the same for every release of transformers. */
  name: string;
  /** Name in the file. */
  sourceName: string;
  dtype: Exclude<DType, "u32">;
  shape: readonly number[];
  path: string;
  offsetBytes: number;
  lengthBytes: number;
}

/** A checkpoint whose configuration and headers were read and agree; no weight has been read. */
export interface Checkpoint {
  dir: string;
  config: Record<string, unknown>;
  family: Family;
  model: ModelShape;
  /** By canonical name, unused tensors left out. */
  tensors: ReadonlyMap<string, CheckpointTensor>;
  /** Source names of tensors that the architecture does not use (buffers of older releases, an unused pooling head). */
  ignoredTensors: string[];
  /** Names of the weight files, sorted. */
  weightFiles: string[];
}

/**
 * Reads a checkpoint directory's configuration and safetensors headers and maps every tensor to its canonical name.
 * @throws WeightStoreError NOT_FOUND, INVALID_CONFIG, UNSUPPORTED_ARCHITECTURE, INVALID_INDEX, UNSAFE_PATH,
 *   DUPLICATE_NAME, MISSING_TENSOR, UNSUPPORTED_DTYPE and the codes of readSafetensorsHeader.
 */
export async function openCheckpoint(dir: string): Promise<Checkpoint> {
  await requireDirectory(dir);
  const configPath = await checkpointFile(dir, "config.json");
  const config = await readJsonObject(configPath, "INVALID_CONFIG");
  const fields = new Fields(config, configPath, "INVALID_CONFIG");
  const family = familyOf(fields);
  const model = family.shape(fields);
  const { files, promised } = await findWeightFiles(dir);
  const collected = new TensorCollection(family);
  for (const file of files) {
    const path = await checkpointFile(dir, file);
    const header = await readSafetensorsHeader(path);
    const names = promised?.get(file);
    if (names !== undefined) checkAgainstIndex(join(dir, INDEX_FILE), names, file, header);
    for (const entry of header.tensors.values()) collected.add(entry, path);
  }
  const { tensors, ignoredTensors } = collected;
  return { dir, config, family, model, tensors, ignoredTensors, weightFiles: files };
}

class TensorCollection {
  readonly tensors = new Map<string, CheckpointTensor>();
  readonly ignoredTensors: string[] = [];

  constructor(private readonly family: Family) {}

  add(entry: SafetensorsEntry, path: string): void {
    const name = this.family.canonicalName(entry.name);
    if (isUnused(name)) {
      this.ignoredTensors.push(entry.name);
      return;
    }
    const other = this.tensors.get(name);
    if (other !== undefined) throw duplicate(path, name, entry.name, other);
    if (this.tensors.size >= MAX_TENSORS) {
      throw new WeightStoreError(
        "INVALID_INDEX",
        `${path}: the checkpoint holds more than ${MAX_TENSORS} tensors, which no supported model does.`,
        { path, expected: MAX_TENSORS },
      );
    }
    const { shape, offsetBytes, lengthBytes } = entry;
    const dtype = weightDType(entry.dtype, entry.name, path);
    const sourceName = entry.name;
    this.tensors.set(name, { name, sourceName, dtype, shape, path, offsetBytes, lengthBytes });
  }
}

async function requireDirectory(dir: string): Promise<void> {
  const found = await withFileErrors("open the checkpoint", dir, () => stat(dir));
  if (!found.isDirectory()) {
    throw new WeightStoreError(
      "NOT_FOUND",
      `${dir} is a file; give the checkpoint directory that holds config.json and model.safetensors.`,
      { path: dir, expected: "directory", got: "file" },
    );
  }
}

/**
 * The real path of a file of the checkpoint. Symbolic links may point inside the directory, or, in a Hugging Face
 * cache (`<repo>/snapshots/<revision>`), into `<repo>/blobs`; anywhere else they are refused.
 */
export async function checkpointFile(dir: string, name: string): Promise<string> {
  const path = join(dir, name);
  return withFileErrors("open", path, async () => {
    const [root, target] = await Promise.all([realpath(dir), realpath(path)]);
    if (!allowedRoots(root).some((allowed) => target.startsWith(allowed + sep))) {
      throw new WeightStoreError(
        "UNSAFE_PATH",
        `${path} is a symbolic link that leaves the checkpoint directory. Copy the file itself there.`,
        { path, expected: root, got: target },
      );
    }
    if (!(await stat(target)).isFile()) {
      throw new WeightStoreError("UNSAFE_PATH", `${path} is not a regular file.`, { path });
    }
    return target;
  });
}

function allowedRoots(root: string): string[] {
  const snapshots = dirname(root);
  return basename(snapshots) === "snapshots" ? [root, join(dirname(snapshots), "blobs")] : [root];
}

/** Weight files by name, with the tensors an index promises in each. */
export interface WeightFiles {
  files: string[];
  promised?: Map<string, Set<string>>;
}

/** Finds the weight files and, where there is an index, what it promises. */
export async function findWeightFiles(dir: string): Promise<WeightFiles> {
  const names = await withFileErrors("list", dir, () => readdir(dir));
  if (names.includes(SINGLE_FILE)) return { files: [SINGLE_FILE] };
  if (!names.includes(INDEX_FILE)) {
    const hint = names.some((name) => name.startsWith("pytorch_model"))
      ? "It holds PyTorch pickles; save it again with safetensors (save_pretrained does)."
      : "Download the whole checkpoint.";
    throw new WeightStoreError(
      "NOT_FOUND",
      `${dir} has neither ${SINGLE_FILE} nor ${INDEX_FILE}. ${hint}`,
      { path: dir, expected: [SINGLE_FILE, INDEX_FILE] },
    );
  }
  const promised = await readIndex(await checkpointFile(dir, INDEX_FILE));
  return { files: [...promised.keys()].sort(), promised };
}

async function readIndex(path: string): Promise<Map<string, Set<string>>> {
  const index = await readJsonObject(path, "INVALID_INDEX");
  const map = index["weight_map"];
  if (!isObject(map) || Object.keys(map).length === 0) {
    throw new WeightStoreError(
      "INVALID_INDEX",
      `${path} has no weight_map that names a file for each tensor. Download the index again.`,
      { path, expected: "weight_map", got: Object.keys(index).slice(0, 10) },
    );
  }
  const promised = new Map<string, Set<string>>();
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== "string") {
      throw new WeightStoreError(
        "INVALID_INDEX",
        `${path}: weight_map of ${name} must be a file name.`,
        { path, name, expected: "string", got: typeof file },
      );
    }
    requirePlainName(path, name, file);
    const names = promised.get(file) ?? new Set();
    promised.set(file, names.add(name));
  }
  if (promised.size > MAX_SHARDS) {
    throw new WeightStoreError(
      "INVALID_INDEX",
      `${path} names ${promised.size} files; at most ${MAX_SHARDS} are allowed.`,
      { path, expected: MAX_SHARDS, got: promised.size },
    );
  }
  return promised;
}

function requirePlainName(path: string, name: string, file: string): void {
  if (/^[^/\\\0:]{1,255}$/.test(file) && !file.startsWith(".") && file.endsWith(".safetensors")) {
    return;
  }
  throw new WeightStoreError(
    "UNSAFE_PATH",
    `${path}: weight_map of ${name} must be the plain name of a .safetensors file beside the index, ` +
      `found ${JSON.stringify(file.slice(0, 200))}. Do not trust this checkpoint.`,
    { path, name, expected: "a plain *.safetensors name", got: file.slice(0, 200) },
  );
}

/** Index and shard must name the same tensors: a difference means a mixed or half-finished download. */
function checkAgainstIndex(
  indexPath: string,
  promised: ReadonlySet<string>,
  file: string,
  header: SafetensorsHeader,
): void {
  for (const name of promised) {
    if (header.tensors.has(name)) continue;
    throw new WeightStoreError(
      "MISSING_TENSOR",
      `${file} lacks ${name}, which ${indexPath} promises. Download the checkpoint again.`,
      { path: indexPath, name, expected: file },
    );
  }
  for (const name of header.tensors.keys()) {
    if (promised.has(name)) continue;
    throw new WeightStoreError(
      "INVALID_INDEX",
      `${file} holds ${name}, which ${indexPath} does not place there. ` +
        `Index and files belong to different exports; download the checkpoint again.`,
      { path: indexPath, name, got: file },
    );
  }
}

function duplicate(
  path: string,
  name: string,
  sourceName: string,
  other: CheckpointTensor,
): WeightStoreError {
  return new WeightStoreError(
    "DUPLICATE_NAME",
    `${path}: ${sourceName} and ${other.sourceName} are both ${name}. The checkpoint mixes two exports; ` +
      `export it again.`,
    { path, name, expected: other.sourceName, got: sourceName },
  );
}
