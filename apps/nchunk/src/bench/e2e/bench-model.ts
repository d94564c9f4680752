import { mkdir, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import {
  convertCheckpoint,
  readManifest,
  type WeightStoreError,
} from "@neuron-chunking/weight-store";
import { errorCode } from "../../errors";
import { withProgress } from "../../terminal/progress";
import { requireDiskSpace } from "./disk-space";
import { modelBytes, type ModelShape } from "./model-shape";
import { writeCheckpoint, writeGguf } from "./model-files";
import { RandomWeights } from "./random-weights";

/** Changes when the same seed and shape would give other bytes. */
const GENERATION = 1;
/** GGUF's list of token names, generously. */
const VOCABULARY_BYTES = 64;

/** A model of random weights in the bench folder: written once, kept until the user deletes it. */
export interface BenchModel {
  readonly shape: ModelShape;
  readonly sizeBytes: number;
  readonly folder: string;
}

/** Where a model of this shape and seed lies, or will. */
export async function benchModel(
  folder: string,
  shape: ModelShape,
  seed: number,
): Promise<BenchModel> {
  const own = path.join(folder, `e2e-${shape.id}-seed${seed}-v${GENERATION}`);
  await mkdir(own, { recursive: true });
  return { shape, sizeBytes: modelBytes(shape), folder: own };
}

const imageDir = ({ folder }: BenchModel): string => path.join(folder, "image");

/** Whether there is an image that this release reads; one of another release is written again. */
async function hasImage(dir: string): Promise<boolean> {
  try {
    await readManifest(dir);
    return true;
  } catch (error) {
    const code = errorCode(error) as WeightStoreError["code"] | undefined;
    if (code === undefined) throw error;
    return false;
  }
}

/** The model as a flash image, by way of a checkpoint that is removed again. Throws DISK_FULL. */
export async function ensureImage(
  model: BenchModel,
  seed: number,
  signal: AbortSignal,
): Promise<string> {
  const dir = imageDir(model);
  if (await hasImage(dir)) return dir;
  await requireDiskSpace(model.folder, 2 * model.sizeBytes);
  const checkpointDir = path.join(model.folder, "checkpoint");
  try {
    await withProgress(`Writing ${model.shape.name} with random weights`, async (report) => {
      await writeCheckpoint(checkpointDir, model.shape, {
        weights: new RandomWeights(seed),
        report: (fraction) => report((fraction ?? 0) / 2, "writing, once"),
        signal,
      });
      await convertCheckpoint({
        checkpointDir,
        outputDir: dir,
        overwrite: true,
        signal,
        onProgress: ({ bytesDone, bytesTotal }) =>
          report(0.5 + bytesDone / bytesTotal / 2, "converting, once"),
      });
    });
  } finally {
    await rm(checkpointDir, { recursive: true, force: true });
  }
  return dir;
}

/** The model as a GGUF file in F16. Throws DISK_FULL. */
export async function ensureGguf(
  model: BenchModel,
  seed: number,
  signal: AbortSignal,
): Promise<string> {
  const file = path.join(model.folder, "f16.gguf");
  const isThere = await stat(file).then(
    () => true,
    () => false,
  );
  if (isThere) return file;
  await requireDiskSpace(model.folder, model.sizeBytes + VOCABULARY_BYTES * model.shape.vocabSize);
  await withProgress(`Writing ${model.shape.name} with random weights as GGUF`, (report) =>
    writeGguf(file, model.shape, { weights: new RandomWeights(seed), report, signal }),
  );
  await writeFile(path.join(model.folder, "README.txt"), README);
  return file;
}

const README = "Models of random weights, for `nchunk bench e2e`. Delete them when you like.\n";
