import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { convertCheckpoint, openFlashImage } from "@neuron-chunking/weight-store";
import type { ConvertOptions, FlashImage } from "@neuron-chunking/weight-store";
import { CpuBackend } from "../../src/backend/cpu-backend.js";
import { parseModelConfig } from "../../src/families/index.js";
import type { Model } from "../../src/model.js";
import { inputFileSizes, loadModel, planModel, readStopTokenIds } from "../../src/open-model.js";
import type { ModelOptions } from "../../src/open-model.js";
import { Prompting } from "../../src/prompting.js";
import { modelPath } from "./goldens.js";

/** Largest difference, relative to the largest value of the reference. */
export function relativeError(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (got.length !== expected.length) return Infinity;
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < got.length; i++) {
    const d = Math.abs(got[i] - expected[i]);
    // NaN compares false everywhere: it must not pass.
    if (Number.isNaN(d)) return Infinity;
    difference = Math.max(difference, d);
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return difference / largest;
}

/** Temporary flash images of one test file. */
export class Images {
  private constructor(private readonly root: string) {}

  static async create(): Promise<Images> {
    return new Images(await mkdtemp(join(tmpdir(), "nchunk-vlm-")));
  }

  /** The image of a fixture model, or of a checkpoint directory, converted once per name. */
  async get(
    checkpoint: string,
    options: Omit<ConvertOptions, "checkpointDir" | "outputDir"> = {},
    suffix = "",
  ): Promise<string> {
    const name = checkpoint.split("/").at(-1)!;
    const outputDir = join(this.root, `${name}${suffix}`);
    if (existsSync(outputDir)) return outputDir;
    const checkpointDir = checkpoint.includes("/") ? checkpoint : modelPath(checkpoint);
    await convertCheckpoint({ checkpointDir, outputDir, ...options });
    return outputDir;
  }

  path(name: string): string {
    return join(this.root, name);
  }

  async remove(): Promise<void> {
    await rm(this.root, { recursive: true, force: true });
  }
}

/** The insides of an open model, for tests of its parts. `given` belongs to the caller where it is given. */
export async function openInsides(
  dir: string,
  options: ModelOptions = {},
  given?: FlashImage,
): Promise<{ model: Model; close: () => Promise<void> }> {
  const image = given ?? (await openFlashImage(dir));
  const config = parseModelConfig(image.config);
  const files = await inputFileSizes(dir);
  const model = await loadModel(image, config, new CpuBackend(), options, {
    prompting: await Prompting.load(dir, config),
    stopTokenIds: await readStopTokenIds(dir, config),
    memory: planModel(image, config, { options, files, calibration: undefined }),
    heap: undefined,
    signal: undefined,
  });
  return { model, close: () => image.close() };
}
