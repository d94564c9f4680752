import { activationFrequencies, hotColdPermutation } from "@neuron-chunking/chunk-selector";
import type { BundleInfo } from "@neuron-chunking/weight-store";
import { VlmExecutorError } from "./errors.js";
import { KvCache } from "./kv-cache.js";
import { RunState } from "./decoder.js";
import { encodePixels, InputBlocks, runPass } from "./model.js";
import type { Model, PixelInput } from "./model.js";

export interface CalibrateOptions {
  readonly signal?: AbortSignal;
  /** Prompts done so far. */
  readonly onProgress?: (promptsDone: number) => void;
}

/** How often each input channel of one stored matrix was active. */
class ActivationCount {
  private readonly frequencies: Float64Array;
  private readonly original: Float32Array;

  constructor(private readonly info: BundleInfo) {
    this.frequencies = new Float64Array(info.rows);
    this.original = new Float32Array(info.rows);
  }

  add(importance: Float32Array): void {
    const order = this.info.storedOrder;
    for (let row = 0; row < importance.length; row++) {
      this.original[order === undefined ? row : order[row]] = importance[row];
    }
    const active = activationFrequencies([this.original]);
    for (let row = 0; row < active.length; row++) this.frequencies[row] += active[row];
  }

  get permutation(): Uint32Array {
    return hotColdPermutation(this.frequencies);
  }
}

/**
 * Hot-cold row orders (PAPER.md, hot-cold reordering, 3.3) from the activations that `prompts` cause; each pass of
 * a block of tokens is one sample. For weight-store's `convertCheckpoint({ permutations })`.
 *
 * @returns by name of the stored matrix: `permutation[stored] = original` input channel
 */
export async function calibrate(
  model: Model,
  prompts: Iterable<PixelInput> | AsyncIterable<PixelInput>,
  { signal, onProgress }: CalibrateOptions = {},
): Promise<Record<string, Uint32Array>> {
  const counts = new Map<string, ActivationCount>();
  const onImportance = (info: BundleInfo, importance: Float32Array): void => {
    let count = counts.get(info.name);
    if (count === undefined) counts.set(info.name, (count = new ActivationCount(info)));
    count.add(importance);
  };
  const state = new RunState(model.backend, model.config.decoder, model.blockTokens);
  const cache = new KvCache(model.backend, model.config.decoder, model.contextLength);
  let done = 0;
  for await (const prompt of prompts) {
    const input = await encodePixels(model, prompt, signal);
    const blocks = new InputBlocks(model, input, model.blockTokens);
    cache.rollBackTo(0);
    cache.requireRoom(input.tokenIds.length);
    for (let first = 0; first < input.tokenIds.length; first += model.blockTokens) {
      state.setRows(Math.min(model.blockTokens, input.tokenIds.length - first));
      await model.lock.run(async () => {
        blocks.fill(state, first);
        await runPass(model, state, cache, "prefill", { signal, onImportance });
      });
      cache.commit(state.h.rows);
    }
    done += 1;
    onProgress?.(done);
  }
  if (counts.size === 0) {
    throw new VlmExecutorError("EMPTY_PROMPT", "Calibration needs at least one prompt.");
  }
  return Object.fromEntries([...counts].map(([name, count]) => [name, count.permutation]));
}
