import { readdir } from "node:fs/promises";
import { checkpointFile } from "./checkpoint.js";

/** What a model needs beside its weights: configuration, tokenizer, processors, chat template. */
const COMPANIONS = new Set([
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "vocab.txt",
  "merges.txt",
  "chat_template.jinja",
  "chat_template.json",
  "preprocessor_config.json",
  "processor_config.json",
  "image_processor_config.json",
  "video_preprocessor_config.json",
]);

/**
 * The files of a checkpoint that an image takes over as they are.
 * @throws WeightStoreError UNSAFE_PATH for a link that leaves the checkpoint.
 */
export async function companionFiles(dir: string): Promise<{ name: string; path: string }[]> {
  const names = (await readdir(dir)).filter((name) => COMPANIONS.has(name)).sort();
  return Promise.all(names.map(async (name) => ({ name, path: await checkpointFile(dir, name) })));
}
