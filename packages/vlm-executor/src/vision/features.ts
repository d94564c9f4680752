/** Projected features of tiles and frames, arranged as decoder inputs. Shapes are [rows, columns, width]. */

/** A grid of feature vectors, row-major, channels last. */
export interface FeatureGrid {
  readonly height: number;
  readonly width: number;
  /** [height, width, channels] */
  readonly values: Float32Array;
}

/** How the tiles of a picture lie and which part of them is padding, in patches. */
export interface TileLayout {
  readonly tileRows: number;
  readonly tileColumns: number;
  /** Rows and columns of padding on each side. */
  readonly padTop: number;
  readonly padLeft: number;
  /** Height and width that the picture's features are reduced to; those after unpadding if they stay. */
  readonly height: number;
  readonly width: number;
}

/**
 * A picture of several tiles: the whole picture's features, then those of the tiles side by side, unpadded,
 * reduced to `layout.height` x `layout.width`, with `newline` at the end of each row.
 *
 * @param tiles [1 + tileRows * tileColumns, side * side, channels], the whole picture first
 * @returns [side * side + height * (width + 1), channels]
 */
export function packTiles(
  tiles: Float32Array,
  side: number,
  channels: number,
  layout: TileLayout,
  newline: Float32Array,
): Float32Array {
  const base = tiles.subarray(0, side * side * channels);
  const grid = resizeBilinear(
    joinTiles(tiles, side, channels, layout),
    layout.height,
    layout.width,
    channels,
  );
  const packed = new Float32Array(base.length + grid.height * (grid.width + 1) * channels);
  packed.set(base);
  let at = base.length;
  for (let row = 0; row < grid.height; row++) {
    const start = row * grid.width * channels;
    packed.set(grid.values.subarray(start, start + grid.width * channels), at);
    at += grid.width * channels;
    packed.set(newline, at);
    at += channels;
  }
  return packed;
}

/** A picture of one tile: its features and a newline. [side * side + 1, channels] */
export function packSingleTile(tile: Float32Array, newline: Float32Array): Float32Array {
  const packed = new Float32Array(tile.length + newline.length);
  packed.set(tile);
  packed.set(newline, tile.length);
  return packed;
}

/** A frame's features pooled 2x2 by bilinear interpolation. [ceil(side / 2) ** 2, channels] */
export function poolFrame(frame: Float32Array, side: number, channels: number): Float32Array {
  const half = Math.ceil(side / 2);
  return resizeBilinear({ height: side, width: side, values: frame }, half, half, channels).values;
}

/** The tiles after the first side by side, without the padding around the picture. */
function joinTiles(
  tiles: Float32Array,
  side: number,
  channels: number,
  layout: TileLayout,
): FeatureGrid {
  const { tileRows, tileColumns, padTop, padLeft } = layout;
  const height = tileRows * side - 2 * padTop;
  const width = tileColumns * side - 2 * padLeft;
  const values = new Float32Array(height * width * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [row, column] = [y + padTop, x + padLeft];
      const tile = 1 + Math.floor(row / side) * tileColumns + Math.floor(column / side);
      const start = (tile * side * side + (row % side) * side + (column % side)) * channels;
      values.set(tiles.subarray(start, start + channels), (y * width + x) * channels);
    }
  }
  return { height, width, values };
}

/**
 * Bilinear interpolation with pixel centres at half integers and edges clamped, no low-pass filter
 * (PyTorch's `interpolate(mode="bilinear", align_corners=False)`).
 */
export function resizeBilinear(
  grid: FeatureGrid,
  height: number,
  width: number,
  channels: number,
): FeatureGrid {
  if (grid.height === height && grid.width === width) return grid;
  const values = new Float32Array(height * width * channels);
  const rows = sourceWeights(grid.height, height);
  const columns = sourceWeights(grid.width, width);
  for (let y = 0; y < height; y++) {
    const { low: top, high: bottom, fraction: down } = rows[y];
    for (let x = 0; x < width; x++) {
      const { low: left, high: right, fraction: across } = columns[x];
      const topLeft = (top * grid.width + left) * channels;
      const topRight = (top * grid.width + right) * channels;
      const bottomLeft = (bottom * grid.width + left) * channels;
      const bottomRight = (bottom * grid.width + right) * channels;
      const target = (y * width + x) * channels;
      for (let c = 0; c < channels; c++) {
        const upper = mix(grid.values[topLeft + c], grid.values[topRight + c], across);
        const lower = mix(grid.values[bottomLeft + c], grid.values[bottomRight + c], across);
        values[target + c] = mix(upper, lower, down);
      }
    }
  }
  return { height, width, values };
}

const mix = (a: number, b: number, fraction: number): number => a * (1 - fraction) + b * fraction;

function sourceWeights(from: number, to: number) {
  return Array.from({ length: to }, (_, i) => {
    const source = Math.max(0, ((i + 0.5) * from) / to - 0.5);
    const low = Math.min(Math.floor(source), from - 1);
    return { low, high: Math.min(low + 1, from - 1), fraction: source - low };
  });
}
