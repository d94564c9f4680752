import { stat } from "node:fs/promises";
import path from "node:path";
import { ensureFlashImage } from "@neuron-chunking/weight-store";
import { cacheFolder } from "./cache";
import { NchunkError } from "./errors";
import { formatBytes } from "./terminal/format";
import { withProgress } from "./terminal/progress";

const exists = (file: string): Promise<boolean> =>
  stat(file).then(
    () => true,
    () => false,
  );

/**
 * The flash image behind `--model`: the folder itself when it is one, else the cached conversion of the
 * checkpoint that it holds (made now, with progress, when it is missing or the checkpoint has changed).
 */
export async function flashImageOf(
  modelDir: string,
  signal?: AbortSignal,
  layout: { bundled?: boolean } = {},
): Promise<string> {
  if (await exists(path.join(modelDir, "manifest.json"))) return modelDir;
  if (!(await exists(path.join(modelDir, "config.json")))) {
    throw new NchunkError(
      "MODEL_NOT_FOUND",
      `${modelDir} holds neither a checkpoint (config.json) nor a flash image (manifest.json). ` +
        "Give the folder of a Hugging Face checkpoint, or one made by `nchunk convert`.",
    );
  }
  const cacheDir = await cacheFolder("images");
  const image = await withProgress(`Converting ${modelDir} into a flash image`, (report) =>
    ensureFlashImage({
      checkpointDir: modelDir,
      cacheDir,
      ...layout,
      onProgress: ({ bytesDone, bytesTotal }) =>
        report(bytesTotal > 0 ? bytesDone / bytesTotal : undefined, formatBytes(bytesDone)),
      ...(signal ? { signal } : {}),
    }),
  );
  return image.dir;
}
