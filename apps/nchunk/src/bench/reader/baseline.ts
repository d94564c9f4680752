import { open as openCallback, close as closeCallback, read as readCallback } from "node:fs";
import { open } from "node:fs/promises";
import { promisify } from "node:util";
import { uniformGenerator } from "../../random";
import { dropCachedPages } from "../bench-file";
import type { Context } from "./context";
import { batchReads, RandomPlaces } from "./random-reads";

const SEED = 17;
const MIN_BATCHES = 2;
/** Buffered reads may be far slower than ours; this keeps them from using up the time. */
const MAX_BATCHES = 16;

/** What Node.js itself needs for such reads, ns per read. */
export interface Baseline {
  readonly sizeBytes: number;
  /** `FileHandle.read` of a batch with `Promise.all`. */
  readonly fsPromisesNs: number;
  /** `fs.read` with callbacks, a batch at once, on the default pool of four threads. */
  readonly fsReadNs: number;
  /** False: the file may have been in memory, so these figures may flatter Node.js. */
  readonly pageCacheDropped: boolean;
}

type ReadBatch = (buffers: readonly Buffer[], offsetsBytes: Float64Array) => Promise<unknown>;

/** Every page is read once at most: places do not repeat, and the page cache forgets the file before. */
async function measureNs(
  context: Context,
  sizeBytes: number,
  readBatch: ReadBatch,
): Promise<number> {
  const { file, effort, table, signal } = context;
  const slots = Math.floor(file.sizeBytes / sizeBytes);
  const count = Math.min(batchReads(sizeBytes), slots);
  const expectedNs = count * table.latencyNs(sizeBytes);
  const wanted = Math.round((effort.sampleMs * 1e6) / expectedNs);
  const batches = Math.min(
    Math.max(MIN_BATCHES, Math.min(MAX_BATCHES, wanted)),
    Math.floor(slots / count),
  );
  const places = new RandomPlaces(file.sizeBytes, sizeBytes, uniformGenerator(SEED));
  const offsetsBytes = new Float64Array(batches * count);
  places.draw(offsetsBytes, offsetsBytes.length);
  const buffers = Array.from({ length: count }, () => Buffer.alloc(sizeBytes, 1));
  const startedAt = process.hrtime.bigint();
  for (let batch = 0; batch < batches; batch += 1) {
    signal.throwIfAborted();
    await readBatch(buffers, offsetsBytes.subarray(batch * count, (batch + 1) * count));
  }
  return Number(process.hrtime.bigint() - startedAt) / offsetsBytes.length;
}

async function withPromises(context: Context, sizeBytes: number): Promise<number> {
  const handle = await open(context.file.path, "r");
  try {
    return await measureNs(context, sizeBytes, (buffers, offsetsBytes) =>
      Promise.all(buffers.map((buffer, i) => handle.read(buffer, 0, sizeBytes, offsetsBytes[i]))),
    );
  } finally {
    await handle.close();
  }
}

async function withCallbacks(context: Context, sizeBytes: number): Promise<number> {
  const fd = await promisify(openCallback)(context.file.path, "r");
  const readBatch: ReadBatch = (buffers, offsetsBytes) =>
    new Promise<void>((resolve, reject) => {
      let pending = buffers.length;
      buffers.forEach((buffer, i) => {
        readCallback(fd, buffer, 0, sizeBytes, offsetsBytes[i], (error) => {
          if (error) reject(error);
          pending -= 1;
          if (pending === 0) resolve();
        });
      });
    });
  try {
    return await measureNs(context, sizeBytes, readBatch);
  } finally {
    await promisify(closeCallback)(fd);
  }
}

/** Node's own ways to read the same kind of places, through the page cache as they always do. */
export async function measureBaselines(context: Context): Promise<Baseline[]> {
  const baselines: Baseline[] = [];
  for (const sizeBytes of context.effort.baselineSizesBytes) {
    context.report(undefined, "Node's own reads");
    const forPromises = await dropCachedPages(context.file);
    const fsPromisesNs = await withPromises(context, sizeBytes);
    const forCallbacks = await dropCachedPages(context.file);
    const fsReadNs = await withCallbacks(context, sizeBytes);
    const pageCacheDropped = forPromises && forCallbacks;
    baselines.push({ sizeBytes, fsPromisesNs, fsReadNs, pageCacheDropped });
  }
  await dropCachedPages(context.file);
  return baselines;
}
