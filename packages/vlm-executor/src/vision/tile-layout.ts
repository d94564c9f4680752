import { patchesPerSide } from "../config.js";
import type { MultimodalConfig } from "../config.js";
import type { TileLayout } from "./features.js";

/** Features are reduced once they exceed the limit's side by this factor. */
const REDUCTION_THRESHOLD = 1.1;

/**
 * How the tiles of a picture of any resolution lie: the canvas that keeps most of the picture with least
 * waste, the padding around it in patches, and the size its features are reduced to (anyres_max_N).
 */
export function tileLayout(
  [imageHeight, imageWidth]: readonly [number, number],
  {
    gridPinpoints,
    vision,
    maxTiles,
  }: Pick<MultimodalConfig, "gridPinpoints" | "vision" | "maxTiles">,
): TileLayout {
  const side = patchesPerSide(vision);
  const [canvasHeight, canvasWidth] = bestCanvas(imageHeight, imageWidth, gridPinpoints);
  const tileRows = Math.floor(canvasHeight / vision.imageSize);
  const tileColumns = Math.floor(canvasWidth / vision.imageSize);
  let height = tileRows * side;
  let width = tileColumns * side;
  let [padTop, padLeft] = [0, 0];
  if (imageWidth / imageHeight > width / height) {
    padTop = Math.floor((height - truncate(imageHeight * (width / imageWidth))) / 2);
  } else {
    padLeft = Math.floor((width - truncate(imageWidth * (height / imageHeight))) / 2);
  }
  height -= 2 * padTop;
  width -= 2 * padLeft;
  const ratio = Math.sqrt((height * width) / (maxTiles * side ** 2));
  if (ratio > REDUCTION_THRESHOLD) {
    height = floorDivide(height, ratio);
    width = floorDivide(width, ratio);
  }
  return { tileRows, tileColumns, padTop, padLeft, height, width };
}

/** The canvas [height, width] that shows most pixels of the picture; among equals the one that wastes least. */
export function bestCanvas(
  imageHeight: number,
  imageWidth: number,
  canvases: readonly (readonly [number, number])[],
): readonly [number, number] {
  let best = canvases[0];
  let mostPixels = 0;
  let leastWaste = Infinity;
  for (const canvas of canvases) {
    const [height, width] = canvas;
    const scale = Math.min(width / imageWidth, height / imageHeight);
    const shown = Math.trunc(imageWidth * scale) * Math.trunc(imageHeight * scale);
    const pixels = Math.min(shown, imageWidth * imageHeight);
    const waste = width * height - pixels;
    if (pixels > mostPixels || (pixels === mostPixels && waste < leastWaste)) {
      [best, mostPixels, leastWaste] = [canvas, pixels, waste];
    }
  }
  return best;
}

/** Rounded to 7 decimals first, so that 26.999999999 counts as 27. */
const truncate = (value: number): number => Math.trunc(Number(value.toFixed(7)));

/** `floor(a / b)` from the exact remainder, as the reference divides. */
function floorDivide(a: number, b: number): number {
  const quotient = (a - (a % b)) / b;
  const floor = Math.floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}
