import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { uniformGenerator } from "../../random";
import type { Context } from "./context";
import { RandomPlaces } from "./random-reads";

const SEED = 7;
const READ_BYTES = 4096;
const READS_PER_BATCH = 4;
/** What the first batches allocate stays: compiled code, grown workspaces. */
const WARM_UP_SHARE = 0.1;
/** Finalizers run after a collection, and may free more. */
const COLLECTIONS = 3;

/** What many batches left behind, bytes; all of it after garbage collections. */
export interface AllocationGrowth {
  readonly batches: number;
  readonly heapGrowthBytes: number;
  readonly rssGrowthBytes: number;
  readonly externalGrowthBytes: number;
}

function collector(): () => void {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as () => void;
}

async function settledMemory(collect: () => void): Promise<NodeJS.MemoryUsage> {
  for (let i = 0; i < COLLECTIONS; i += 1) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return process.memoryUsage();
}

/** Reads many small batches into one landing buffer and compares memory before and after. */
export async function measureAllocation(context: Context): Promise<AllocationGrowth> {
  const { effort, readers, signal, report } = context;
  const reader = readers.chosen;
  const count = READS_PER_BATCH;
  const places = new RandomPlaces(reader.sizeBytes, READ_BYTES, uniformGenerator(SEED));
  const ranges = {
    offsetsBytes: new Float64Array(count),
    lengthsBytes: new Float64Array(count).fill(READ_BYTES),
    count,
  };
  const into = reader.allocate(reader.landingBytesBound(count, count * READ_BYTES));
  const read = async (batches: number): Promise<void> => {
    for (let batch = 0; batch < batches; batch += 1) {
      places.draw(ranges.offsetsBytes, count);
      await reader.read(ranges, { into, signal });
    }
  };
  report(undefined, "allocation growth");
  const collect = collector();
  await read(Math.ceil(effort.allocationBatches * WARM_UP_SHARE));
  const before = await settledMemory(collect);
  await read(effort.allocationBatches);
  const after = await settledMemory(collect);
  return {
    batches: effort.allocationBatches,
    heapGrowthBytes: after.heapUsed - before.heapUsed,
    rssGrowthBytes: after.rss - before.rss,
    externalGrowthBytes: after.external - before.external,
  };
}
