import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** What may be lost on top of a legitimate need before a collection is worth its time again. */
const SLACK_BYTES = 8 * 2 ** 20;

/**
 * Keeps V8 within its part of a memory budget. V8 grows its heap as it sees fit and knows nothing of the budget: pictures,
 * closed sessions and a parsed tokenizer stay in memory for as long as no collection runs. Asked between steps, never
 * within one.
 */
export class HeapKeeper {
  private readonly collect: () => void;
  private heapLimitBytes: number;
  private externalLimitBytes: number;

  /**
   * @param heapBytes most that V8's heap may take
   * @param externalBytes most that typed arrays may take
   */
  constructor(heapBytes: number, externalBytes: number) {
    this.heapLimitBytes = heapBytes;
    this.externalLimitBytes = externalBytes;
    // Flags set now hold for contexts made from now on; there is no other way to the collector than its global.
    setFlagsFromString("--expose-gc");
    this.collect = runInNewContext("gc") as () => void;
  }

  /** Collects where the heap or the arrays outgrew their limits. */
  check(): void {
    const { total_heap_size: heap, external_memory: external } = getHeapStatistics();
    if (heap <= this.heapLimitBytes && external <= this.externalLimitBytes) return;
    this.collect();
    // Arrays are freed behind a collection's back, and counted as gone by the next one only.
    if (external > this.externalLimitBytes) this.collect();
    // What is in use stays in use: do not look for it again at every step.
    const left = getHeapStatistics();
    this.heapLimitBytes = Math.max(this.heapLimitBytes, left.total_heap_size + SLACK_BYTES);
    this.externalLimitBytes = Math.max(this.externalLimitBytes, left.external_memory + SLACK_BYTES);
  }

  /**
   * Collects now: something large was let go. Room for objects to come is given back as soon as the event loop is free,
   * and from then on V8's young generation stays small, in the whole process.
   */
  settle(): void {
    this.collect();
    void shrinkYoungGeneration();
  }
}

/**
 * Parsing makes the young generation as large as it may be, 32 MiB and more, and a full collection leaves its size alone.
 * What V8 does when memory is short makes it small; no other interface of every Node version leads there.
 */
async function shrinkYoungGeneration(): Promise<void> {
  try {
    const { Session } = await import("node:inspector/promises");
    const session = new Session();
    session.connect();
    try {
      await session.post("HeapProfiler.collectGarbage");
    } finally {
      session.disconnect();
    }
    setFlagsFromString("--semi-space-growth-factor=1");
  } catch {
    // A Node built without its inspector: the heap is larger than it could be.
  }
}
