import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { MultimodalConfig } from "../src/config.js";
import { imageTokenCount, prepareImages, videoTokenCount } from "../src/inputs/index.js";
import type { ProcessorConfig } from "../src/inputs/index.js";
import { tileLayout } from "../src/vision/tile-layout.js";
import { readGolden } from "./support/goldens.js";

interface TokenCounts {
  readonly sizesHeightWidth: readonly (readonly [number, number])[];
  readonly configurations: readonly {
    readonly imageSize: number;
    readonly patchSize: number;
    readonly mostTiles: number;
    readonly maxTiles: number;
    readonly counts: readonly number[];
  }[];
}

function multimodal(
  imageSize: number,
  patchSize: number,
  most: number,
  maxTiles: number,
): MultimodalConfig {
  const sides = Array.from({ length: most }, (_, i) => (i + 1) * imageSize);
  return {
    vision: {
      hiddenSize: 4,
      intermediateSize: 4,
      layerCount: 1,
      headCount: 1,
      imageSize,
      patchSize,
      channels: 3,
      layerNormEpsilon: 1e-6,
      activation: "gelu",
    },
    imageTokenId: 1,
    videoTokenId: 2,
    featureLayers: [1],
    projectorBias: true,
    gridPinpoints: sides.flatMap((height) =>
      sides.map((width): [number, number] => [height, width]),
    ),
    maxTiles,
  };
}

const pixels = {
  height: 8,
  width: 8,
  filter: "bicubic",
  rescaleFactor: 1 / 255,
  mean: [0.5, 0.5, 0.5],
} as const;
const processor: ProcessorConfig = {
  image: pixels,
  video: pixels,
  imageToken: "<image>",
  videoToken: "<video>",
};

describe("token counts", () => {
  const golden = readGolden<TokenCounts>("token-counts");

  it.each(golden.configurations)(
    "are the reference's for tiles of $imageSize/$patchSize, at most $maxTiles",
    ({ imageSize, patchSize, mostTiles, maxTiles, counts }) => {
      const model = multimodal(imageSize, patchSize, mostTiles, maxTiles);
      const ours = golden.sizesHeightWidth.map((size) => imageTokenCount(size, model, true));
      expect(ours).toEqual(counts);
    },
  );

  it("are one tile and a newline for a picture among several", () => {
    expect(imageTokenCount([100, 30], multimodal(40, 8, 3, 4), false)).toBe(26);
  });

  it("round odd sides up for clips", () => {
    expect(videoTokenCount(3, multimodal(40, 8, 3, 4))).toBe(3 * 9 + 1);
    expect(videoTokenCount(2, multimodal(64, 16, 3, 4))).toBe(2 * 4 + 1);
  });

  it("agree with the layout, and tiles with its grid, for pictures of any size", async () => {
    const model = multimodal(8, 2, 3, 2);
    const side = fc.integer({ min: 1, max: 60 });
    await fc.assert(
      fc.asyncProperty(side, side, async (width, height) => {
        const rgb = new Uint8Array(width * height * 3).fill(7);
        const [image] = await prepareImages([{ width, height, rgb }], processor, model);
        const layout = tileLayout([height, width], model);
        expect(image.tiles).toBe(1 + layout.tileRows * layout.tileColumns);
        expect(image.tokenCount).toBe(16 + layout.height * (layout.width + 1));
        expect(image.pixelValues.length).toBe(image.tiles * 3 * 64);
      }),
      { numRuns: 60 },
    );
  });
});
