import type { ChunkPlan } from "@neuron-chunking/latency-model";
import type { Random } from "./random.js";

/** What one plan is drawn from. */
export interface PlanShape {
  readonly rowBytes: number;
  /** Rows that there are. */
  readonly rows: number;
  readonly maxChunks: number;
  /** About how long chunks may get on average. */
  readonly maxChunkBytes: number;
}

/** Gaps of up to this many rows on average: masks are dense in places and sparse in others. */
const MAX_GAP_ROWS = 32;

/**
 * A random mask's chunks. Their number, length and distance vary over orders of magnitude from plan to
 * plan (batches of one chunk as well as of hundreds, P5), and geometrically within a plan, as those of
 * random rows do.
 */
export function randomPlan(random: Random, shape: PlanShape): ChunkPlan {
  const { rowBytes, rows, maxChunks, maxChunkBytes } = shape;
  const wanted = Math.round(logUniform(random, 1, maxChunks));
  const meanRows = logUniform(random, 1, Math.max(1, maxChunkBytes / rowBytes));
  const meanGapRows = logUniform(random, 1, MAX_GAP_ROWS);
  const starts: number[] = [];
  const lengths: number[] = [];
  let row = geometric(random, meanGapRows) - 1;
  while (starts.length < wanted) {
    const length = geometric(random, meanRows);
    if (row + length > rows) break;
    starts.push(row);
    lengths.push(length);
    row += length + geometric(random, meanGapRows);
  }
  if (starts.length === 0) {
    starts.push(0);
    lengths.push(1);
  }
  return {
    starts: Uint32Array.from(starts),
    lengths: Uint32Array.from(lengths),
    chunkCount: starts.length,
  };
}

function logUniform(random: Random, least: number, most: number): number {
  return least * (most / least) ** random.share();
}

/** 1, 2, 3, ... with this mean. */
function geometric(random: Random, mean: number): number {
  if (mean <= 1) return 1;
  return 1 + Math.floor(Math.log(1 - random.share()) / Math.log(1 - 1 / mean));
}
