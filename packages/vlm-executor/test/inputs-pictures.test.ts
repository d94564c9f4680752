import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { llavaOnevision } from "../src/families/llava-onevision.js";
import {
  decodeImage,
  loadProcessorConfig,
  prepareImages,
  prepareVideo,
} from "../src/inputs/index.js";
import type { PixelOptions, ProcessorConfig } from "../src/inputs/index.js";
import type { MultimodalConfig } from "../src/config.js";
import { modelPath, picturePath, readGolden, readGoldenTensors } from "./support/goldens.js";
import type { GoldenTensor, ModelGolden, PicturesGolden } from "./support/goldens.js";

const VISION_MODELS = ["llava-tied-f32", "llava-tied-bf16", "llava-untied-bf16"];

async function setUp(name: string): Promise<{ config: ProcessorConfig; model: MultimodalConfig }> {
  const json: unknown = JSON.parse(await readFile(join(modelPath(name), "config.json"), "utf8"));
  const config = await loadProcessorConfig(modelPath(name));
  return { config: config!, model: llavaOnevision.parseConfig(json).multimodal! };
}

/** In units of 1/255. The issue asks for 1; the values are 8-bit, so anything below one half is exact. */
const TOLERANCE = 1.001;
let largestSeen = 0;
afterAll(() => console.log(`Largest distance from the reference's pixels: ${largestSeen} / 255`));

/** Largest distance from the reference's 8-bit values, in units of 1/255, of normalised pixels. */
function pixelDistance(pixels: Float32Array, golden: GoldenTensor, options: PixelOptions): number {
  expect(pixels.length).toBe(golden.values.length);
  const perChannel = golden.shape.at(-1)! ** 2;
  const { mean, std } = options.normalise!;
  let largest = 0;
  pixels.forEach((value, i) => {
    const channel = Math.floor(i / perChannel) % 3;
    const unit = (value * std[channel] + mean[channel]) * 255;
    largest = Math.max(largest, Math.abs(unit - golden.values[i]));
  });
  largestSeen = Math.max(largestSeen, largest);
  return largest;
}

describe("pictures against the reference's processor", () => {
  const golden = readGolden<PicturesGolden>("pictures");
  const tensors = readGoldenTensors("pictures");

  it.each(golden.pictures)("decodes $file as PIL does", async ({ file, sizeHeightWidth }) => {
    const picture = await decodeImage(picturePath(file));
    expect([picture.height, picture.width]).toEqual(sizeHeightWidth);
    const decoded = tensors.get(`${file}.decoded`);
    if (decoded === undefined) return;
    let largest = 0;
    picture.rgb.forEach((value, i) => {
      largest = Math.max(largest, Math.abs(value - decoded.values[i]));
    });
    expect(largest).toBeLessThanOrEqual(1);
  });

  it.each(golden.pictures)("tiles $file within 1/255", async ({ file, tiles, sizeHeightWidth }) => {
    const { config, model } = await setUp(golden.processorOf);
    const [image] = await prepareImages([picturePath(file)], config, model);
    expect(image.tiles).toBe(tiles);
    expect(image.imageSize).toEqual(sizeHeightWidth);
    const distance = pixelDistance(image.pixelValues, tensors.get(file)!, config.image);
    expect(distance).toBeLessThanOrEqual(TOLERANCE);
  });
});

describe.each(VISION_MODELS)("prompts of %s", (name) => {
  const golden = readGolden<ModelGolden>(name);
  const tensors = readGoldenTensors(name);

  it.each(golden.cases.filter(({ images }) => images.length > 0))("tiles of $name", async (one) => {
    const { config, model } = await setUp(name);
    const images = await prepareImages(one.images.map(picturePath), config, model, {
      grouping: one.grouping,
    });
    expect(images.map(({ tiles }) => tiles)).toEqual(one.tileCounts);
    const pixels = Float32Array.from(images.flatMap(({ pixelValues }) => [...pixelValues]));
    expect(pixelDistance(pixels, tensors.get(`${one.name}.tiles`)!, config.image)).toBeLessThan(
      TOLERANCE,
    );
  });

  it.each(golden.cases.filter(({ videos }) => videos.length > 0))(
    "frames of $name",
    async (one) => {
      const { config, model } = await setUp(name);
      const video = await prepareVideo(one.videos[0].map(picturePath), config, model);
      expect(video.frames).toBe(one.videos[0].length);
      expect(
        pixelDistance(video.pixelValues, tensors.get(`${one.name}.frames`)!, config.video),
      ).toBeLessThan(TOLERANCE);
    },
  );
});
