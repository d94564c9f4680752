import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { llavaOnevision } from "../src/families/llava-onevision.js";
import {
  expandPlaceholders,
  loadChatTemplate,
  loadProcessorConfig,
  loadTokenizer,
  prepareImages,
  prepareVideo,
  renderChat,
} from "../src/inputs/index.js";
import { modelPath, picturePath, readGolden } from "./support/goldens.js";
import type { ModelGolden } from "./support/goldens.js";

const MODELS = [
  "llava-tied-f32",
  "llava-tied-bf16",
  "llava-untied-bf16",
  "qwen2-tied-f32",
  "llama-untied-f32",
  "llama-headdim-bf16",
];

describe.each(MODELS)("text of %s against the reference", (name) => {
  const golden = readGolden<ModelGolden>(name);

  it.each(golden.encodings)("encodes and decodes $text", async (one) => {
    const codec = await loadTokenizer(modelPath(name));
    expect(codec.encode(one.text)).toEqual(one.ids);
    expect(codec.encode(one.text, { addSpecialTokens: false })).toEqual(one.idsWithoutSpecial);
    expect(codec.decode(one.ids, { skipSpecialTokens: false })).toBe(one.decoded);
    expect(codec.decode(one.ids)).toBe(one.decodedWithoutSpecial);
  });

  it.each(golden.chats)("renders the chat $name ($addGenerationPrompt)", async (one) => {
    const codec = await loadTokenizer(modelPath(name));
    const template = await loadChatTemplate(modelPath(name), codec.specialTokens);
    const { messages, addGenerationPrompt } = one;
    expect(renderChat(template, messages, { addGenerationPrompt })).toBe(one.text);
  });

  it.each(golden.cases)("gives the ids of $name", async (one) => {
    const codec = await loadTokenizer(modelPath(name));
    const config = await loadProcessorConfig(modelPath(name));
    if (config === undefined) {
      expect(codec.encode(one.prompt)).toEqual(one.inputIds);
      return;
    }
    const json: unknown = JSON.parse(await readFile(join(modelPath(name), "config.json"), "utf8"));
    const model = llavaOnevision.parseConfig(json).multimodal!;
    const { grouping } = one;
    const images = await prepareImages(one.images.map(picturePath), config, model, { grouping });
    const videos = await Promise.all(
      one.videos.map((frames) => prepareVideo(frames.map(picturePath), config, model)),
    );
    const prompt = expandPlaceholders(one.prompt, config, {
      images: images.map(({ tokenCount }) => tokenCount),
      videos: videos.map(({ tokenCount }) => tokenCount),
    });
    expect(codec.encode(prompt)).toEqual(one.inputIds);
  });
});

describe("the files of transformers 4.x", () => {
  it("say the same as those of 5.x", async () => {
    const [old, now] = [modelPath("llava-4x-sharded-bf16"), modelPath("llava-tied-bf16")];
    expect(await loadProcessorConfig(old)).toEqual(await loadProcessorConfig(now));
    expect((await loadChatTemplate(old))?.source).toBe((await loadChatTemplate(now))?.source);
  });
});
