import type { ComputeBackend, Tensor } from "../backend/compute-backend.js";
import { patchesPerSide, patchesPerTile } from "../config.js";
import type { MultimodalConfig } from "../config.js";
import { throwIfAborted, VlmExecutorError } from "../errors.js";
import { packSingleTile, packTiles, poolFrame } from "./features.js";
import { tileLayout } from "./tile-layout.js";
import type { Projector } from "./projector.js";
import type { SiglipTower } from "./siglip.js";

/** Pixels of one picture: the whole of it, then its tiles if it has any. */
export interface PictureInput {
  /** [tiles, channels, imageSize, imageSize], normalised */
  readonly pixelValues: Float32Array;
  readonly tiles: number;
  /** Height and width of the picture itself, in pixels. */
  readonly imageSize: readonly [height: number, width: number];
}

/** Pixels of a clip. */
export interface ClipInput {
  /** [frames, channels, imageSize, imageSize], normalised */
  readonly pixelValues: Float32Array;
  readonly frames: number;
}

/** Pictures and clips to decoder inputs: tower, projector, arrangement. One call at a time. */
export class VisionEncoder {
  private readonly features: Tensor;
  private readonly projected: Tensor;

  /** @param newline [hidden] */
  constructor(
    private readonly backend: ComputeBackend,
    private readonly config: MultimodalConfig,
    private readonly tower: SiglipTower,
    private readonly projector: Projector,
    private readonly newline: Float32Array,
  ) {
    const patches = patchesPerTile(config.vision);
    const columns = config.featureLayers.length * config.vision.hiddenSize;
    this.features = backend.createTensor(patches, columns);
    this.projected = backend.createTensor(patches, newline.length);
  }

  /** Decoder inputs of a picture [n, hidden], the newlines included. */
  async encodePicture(picture: PictureInput, signal?: AbortSignal): Promise<Float32Array> {
    const tiles = await this.encodeTiles(picture.pixelValues, picture.tiles, signal);
    if (picture.tiles === 1) return packSingleTile(tiles, this.newline);
    const layout = tileLayout(picture.imageSize, this.config);
    const expected = 1 + layout.tileRows * layout.tileColumns;
    if (picture.tiles !== expected) {
      throw new VlmExecutorError(
        "PLACEHOLDER_MISMATCH",
        `A picture of ${picture.imageSize.join(" x ")} needs ${expected} tiles, not ${picture.tiles}.`,
        { expected, got: picture.tiles },
      );
    }
    const side = patchesPerSide(this.config.vision);
    return packTiles(tiles, side, this.newline.length, layout, this.newline);
  }

  /**
   * Decoder inputs of consecutive frames [n, hidden].
   *
   * @param end whether the clip ends here: a newline follows its last frame
   */
  async encodeFrames(clip: ClipInput, end: boolean, signal?: AbortSignal): Promise<Float32Array> {
    const hidden = this.newline.length;
    const side = patchesPerSide(this.config.vision);
    const pooled = Math.ceil(side / 2) ** 2 * hidden;
    const packed = new Float32Array(clip.frames * pooled + (end ? hidden : 0));
    for (let frame = 0; frame < clip.frames; frame++) {
      const features = await this.encodeTiles(this.tile(clip.pixelValues, frame), 1, signal);
      packed.set(poolFrame(features, side, hidden), frame * pooled);
    }
    if (end) packed.set(this.newline, clip.frames * pooled);
    return packed;
  }

  /**
   * What the tower and the projector give, tile after tile, for comparison with other implementations.
   *
   * @param pixels [tiles, channels, imageSize, imageSize]
   */
  async inspect(
    pixels: Float32Array,
  ): Promise<{ selected: Float32Array; projected: Float32Array }> {
    const { channels, imageSize } = this.config.vision;
    const tiles = pixels.length / (channels * imageSize ** 2);
    const selected = new Float32Array(tiles * this.features.capacityRows * this.features.columns);
    const perTile = selected.length / tiles;
    const projected = await this.encodeTiles(pixels, tiles, undefined, async (tile) => {
      const part = selected.subarray(tile * perTile, (tile + 1) * perTile);
      await this.backend.read(this.features, 0, part);
    });
    return { selected, projected };
  }

  /** Projected features [tiles, patches, hidden]. */
  private async encodeTiles(
    pixels: Float32Array,
    tiles: number,
    signal: AbortSignal | undefined,
    onFeatures?: (tile: number) => Promise<void>,
  ): Promise<Float32Array> {
    const perTile = this.projected.capacityRows * this.projected.columns;
    const all = new Float32Array(tiles * perTile);
    for (let tile = 0; tile < tiles; tile++) {
      throwIfAborted(signal);
      const { featureLayers } = this.config;
      await this.tower.encode(this.tile(pixels, tile), featureLayers, this.features, signal);
      await onFeatures?.(tile);
      await this.projector.project(this.features, this.projected);
      await this.backend.read(
        this.projected,
        0,
        all.subarray(tile * perTile, (tile + 1) * perTile),
      );
    }
    return all;
  }

  private tile(pixels: Float32Array, index: number): Float32Array {
    const { channels, imageSize } = this.config.vision;
    const length = channels * imageSize ** 2;
    const tile = pixels.subarray(index * length, (index + 1) * length);
    if (tile.length === length) return tile;
    throw new VlmExecutorError(
      "WRONG_SHAPE",
      `Pixels end within tile ${index}; each has ${channels} x ${imageSize} x ${imageSize} values.`,
      { expected: length, got: tile.length },
    );
  }
}
