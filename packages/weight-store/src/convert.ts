import { createHash } from "node:crypto";
import { mkdir, open, readdir, rename, rm, stat, type FileHandle } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { openCheckpoint, type Checkpoint } from "./checkpoint.js";
import { asFileError, WeightStoreError } from "./errors.js";
import { hashFile, requireSpace, syncDirectory } from "./files.js";
import { imageManifest } from "./image-manifest.js";
import { planImage, type ImagePlan } from "./image-plan.js";
import { ImageWriter } from "./image-writer.js";
import { Journal } from "./journal.js";
import { lock } from "./lock.js";
import {
  FLASH_FILE,
  MANIFEST_FILE,
  RESIDENT_FILE,
  writeManifest,
  type Manifest,
  type SourceFile,
} from "./manifest.js";
import { quantisedFormat } from "./quantised-row.js";
import {
  optionsSha256,
  requireUnchanged,
  sourceStates,
  type ImageOptions,
  type SourceState,
} from "./sources.js";
import { settleTiedHead } from "./tied-head.js";

/** What a conversion is doing, for a progress display. */
export interface ConvertProgress {
  phase: "hash" | "bundles" | "resident" | "finish";
  /** File, bundle or tensor in hand. */
  item: string;
  /** Of the whole conversion: bytes hashed and written, those of an earlier, interrupted run included. */
  bytesDone: number;
  bytesTotal: number;
}

export interface ConvertOptions extends ImageOptions {
  /** Hugging Face checkpoint: config.json, model.safetensors or shards with an index, tokenizer files. */
  checkpointDir: string;
  /** Directory of the flash image; it appears when it is complete and not before. */
  outputDir: string;
  /** Replace an existing flash image at `outputDir` (default false). Anything else there is never removed. */
  overwrite?: boolean | undefined;
  onProgress?: ((progress: ConvertProgress) => void) | undefined;
  /** Stops between blocks; a later call with the same options goes on where this one stopped. */
  signal?: AbortSignal | undefined;
}

/**
 * Converts a checkpoint into a flash image. Streams: peak memory stays below 512 MiB for a model of any size. Works in
 * `<outputDir>.partial` and renames it when every byte is durable, so `outputDir` is whole or absent; interrupted by
 * a signal, a crash or `signal`, the next call with the same sources and options goes on and writes the same bytes.
 * Any other failure removes what was begun.
 * @returns The manifest of the finished image.
 * @throws WeightStoreError of almost any code; `signal.reason` when aborted.
 */
export async function convertCheckpoint(options: ConvertOptions): Promise<Manifest> {
  options.signal?.throwIfAborted();
  const quantised = quantisedFormat(options);
  const checkpoint = await settleTiedHead(await openCheckpoint(options.checkpointDir));
  const plan = planImage(
    checkpoint,
    options.bundled ?? true,
    options.permutations ?? {},
    quantised,
  );
  const outputDir = resolve(options.outputDir);
  try {
    await mkdir(dirname(outputDir), { recursive: true });
    const release = await lock(`${outputDir}.lock`);
    try {
      await requireReplaceable(outputDir, options.overwrite ?? false);
      return await convertLocked(checkpoint, plan, outputDir, options);
    } finally {
      await release();
    }
  } catch (error) {
    throw asFileError(error, "write the flash image", outputDir);
  }
}

async function requireReplaceable(outputDir: string, overwrite: boolean): Promise<void> {
  const names = await readdir(outputDir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [] as string[];
    // A file: never replaced, whatever it is called.
    if (error.code === "ENOTDIR") return [outputDir];
    throw error;
  });
  if (names.length === 0) return;
  if (overwrite && (names.includes(MANIFEST_FILE) || names.includes(FLASH_FILE))) return;
  throw new WeightStoreError(
    "OUTPUT_EXISTS",
    overwrite
      ? `${outputDir} is not a flash image and is left alone. Choose another output directory.`
      : `${outputDir} exists. Choose another output directory, or ask for it to be overwritten.`,
    { path: outputDir },
  );
}

async function convertLocked(
  checkpoint: Checkpoint,
  plan: ImagePlan,
  outputDir: string,
  options: ConvertOptions,
): Promise<Manifest> {
  const partialDir = `${outputDir}.partial`;
  const sources = await sourceStates(checkpoint);
  const optionsHash = optionsSha256(options);
  const identity = sources.map(({ name, sizeBytes, mtimeMs }) => [name, sizeBytes, mtimeMs]);
  const key = createHash("sha256")
    .update(JSON.stringify([optionsHash, resolve(checkpoint.dir), identity]))
    .digest("hex");
  const journal = await Journal.open(partialDir, key);
  try {
    await requireSpace(partialDir, await missingBytes(partialDir, plan));
    const conversion = new Conversion(checkpoint, plan, sources, journal, options);
    const manifest = await conversion.run(optionsHash);
    await journal.finish();
    await syncDirectory(partialDir);
    await publish(partialDir, outputDir);
    return manifest;
  } catch (error) {
    await journal.close().catch(() => undefined);
    if (options.signal?.aborted !== true) await rm(partialDir, { recursive: true, force: true });
    throw error;
  }
}

/** Bytes still to be allocated; files of an interrupted run keep theirs. */
async function missingBytes(dir: string, plan: ImagePlan): Promise<number> {
  let missing = 0;
  for (const [name, layout] of [
    [FLASH_FILE, plan.flash],
    [RESIDENT_FILE, plan.resident],
  ] as const) {
    const found = await stat(join(dir, name)).catch(() => undefined);
    missing += Math.max(0, layout.fileBytes - (found === undefined ? 0 : found.blocks * 512));
  }
  return missing;
}

/** Renames the finished directory to its name; an older image steps aside for the moment between two renames. */
async function publish(partialDir: string, outputDir: string): Promise<void> {
  const parent = dirname(outputDir);
  const oldDir = join(parent, `${basename(outputDir)}.old`);
  await rm(oldDir, { recursive: true, force: true });
  const replaced = await readdir(outputDir).then(
    (names) => names.length > 0,
    () => false,
  );
  if (replaced) await rename(outputDir, oldDir);
  await rename(partialDir, outputDir);
  await syncDirectory(parent);
  if (replaced) await rm(oldDir, { recursive: true, force: true });
}

/** One run of a conversion: the items that the journal does not have yet, in a fixed order. */
class Conversion {
  private bytesDone = 0;
  private readonly bytesTotal: number;
  private phase: ConvertProgress["phase"] = "hash";
  private item = "";
  private readonly open = new Map<string, FileHandle>();

  constructor(
    private readonly checkpoint: Checkpoint,
    private readonly plan: ImagePlan,
    private readonly sources: readonly SourceState[],
    private readonly journal: Journal,
    private readonly options: ConvertOptions,
  ) {
    const written = [...plan.flash.tensors, ...plan.resident.tensors];
    this.bytesTotal =
      sources.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) +
      written.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  }

  async run(optionsHash: string): Promise<Manifest> {
    try {
      const sourceFiles = await this.hashSources();
      const writer = new ImageWriter(this.journal, this.plan, {
        source: (path) => this.source(path),
        onItem: (phase, item) => this.begin(phase, item),
        onBytes: (bytes) => this.advance(bytes),
      });
      const { flash, resident } = await writer.write();
      this.begin("finish", MANIFEST_FILE);
      const files = await writer.copyFiles(this.sources.filter(({ weights }) => !weights));
      await requireUnchanged(this.sources);
      const bundled = this.options.bundled ?? true;
      const made = { bundled, sourceFiles, optionsSha256: optionsHash };
      const written = { flash, resident, files };
      const manifest = imageManifest(this.checkpoint, this.plan, made, written);
      await writeManifest(this.journal.dir, manifest);
      this.begin("finish", MANIFEST_FILE);
      return manifest;
    } finally {
      await Promise.all([...this.open.values()].map((file) => file.close()));
    }
  }

  private begin(phase: ConvertProgress["phase"], item: string): void {
    this.phase = phase;
    this.item = item;
    this.advance(0);
  }

  private advance(bytes: number): void {
    this.options.signal?.throwIfAborted();
    this.bytesDone += bytes;
    const { phase, item, bytesDone, bytesTotal } = this;
    this.options.onProgress?.({ phase, item, bytesDone, bytesTotal });
  }

  private async source(path: string): Promise<FileHandle> {
    const file = this.open.get(path) ?? (await open(path, "r"));
    this.open.set(path, file);
    return file;
  }

  private async hashSources(): Promise<SourceFile[]> {
    const files: SourceFile[] = [];
    for (const { name, path, sizeBytes, mtimeMs } of this.sources) {
      this.begin("hash", name);
      const item = `source/${name}`;
      let sha256 = this.journal.finished(item)?.sha256;
      if (sha256 === undefined) {
        sha256 = await hashFile(path, (bytes) => this.advance(bytes));
        this.journal.note(item, { sha256 });
        await this.journal.commit();
      } else this.advance(sizeBytes);
      files.push({ name, sizeBytes, sha256, mtimeMs });
    }
    return files;
  }
}
