import { once } from "node:events";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { uniformGenerator } from "../../random";
import { quantile } from "../../statistics";
import type { Context } from "./context";
import { RandomPlaces } from "./random-reads";

const SEED = 5;
const READ_BYTES = 4096;
/** As a small sparse matrix has: a thousand such batches end in time on a slow disk too. */
const READS_PER_BATCH = 128;
const P99 = 0.99;
/** Code is compiled during the first batches. */
const WARM_UP_SHARE = 0.05;
/** Mean time between two events; often enough for thousands of samples, seldom enough to cost nothing. */
const EVENT_INTERVAL_MS = 0.5;

/** Starting a thread keeps this one busy for a moment, too. */
const SETTLE_MS = 50;

/** How long the event loop kept others waiting while batches were read. */
export interface EventLoopDelay {
  readonly batches: number;
  readonly readsPerBatch: number;
  /** Events that another thread sent meanwhile. */
  readonly events: number;
  /** From the sending of an event to its handler. */
  readonly medianNs: number;
  readonly p99Ns: number;
  /** The same 99 % on this machine while nothing is read: what is not the reader's doing. */
  readonly idleP99Ns: number;
  readonly longestNs: number;
  /**
   * What `perf_hooks.monitorEventLoopDelay` says. It counts the time from one tick of a 1 ms timer to the next,
   * that millisecond included, so it cannot come below 1 ms.
   */
  readonly timerP99Ns: number;
}

/** Sends the time at random moments: not in step with anything that the main thread does. */
const SENDER = `
  const { parentPort } = require("node:worker_threads");
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    parentPort.postMessage(process.hrtime.bigint());
    Atomics.wait(never, 0, 0, 2 * Math.random() * ${EVENT_INTERVAL_MS});
  }
`;

/** Events from another thread, and how long each waited for this one's event loop. */
class EventWaits {
  waitsNs: number[] = [];
  #sender: Worker | undefined;

  /** Events that queued up while the thread started do not count. */
  async start(): Promise<void> {
    this.#sender = new Worker(SENDER, { eval: true });
    await once(this.#sender, "message");
    await setTimeout(SETTLE_MS);
    this.#sender.on("message", (sentAt: bigint) => {
      this.waitsNs.push(Number(process.hrtime.bigint() - sentAt));
    });
  }

  /** What was recorded so far; the record begins anew. */
  take(): number[] {
    const taken = this.waitsNs;
    this.waitsNs = [];
    return taken;
  }

  async stop(): Promise<void> {
    // Ending a thread holds this one up, which no read is to blame for.
    this.#sender?.removeAllListeners("message");
    await this.#sender?.terminate();
  }
}

/** Reads batches one after the other and watches the event loop meanwhile. */
export async function measureEventLoop(context: Context): Promise<EventLoopDelay> {
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
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  report(undefined, "event-loop delay");
  const waits = new EventWaits();
  let idleP99Ns: number;
  const read = async (batches: number): Promise<void> => {
    for (let batch = 0; batch < batches; batch += 1) {
      places.draw(ranges.offsetsBytes, count);
      await reader.read(ranges, { into, signal });
    }
  };
  try {
    await read(Math.ceil(effort.eventLoopBatches * WARM_UP_SHARE));
    await waits.start();
    await setTimeout(effort.idleMs, undefined, { signal });
    idleP99Ns = quantile(waits.take(), P99);
    histogram.enable();
    await read(effort.eventLoopBatches);
  } finally {
    histogram.disable();
    await waits.stop();
  }
  return {
    batches: effort.eventLoopBatches,
    readsPerBatch: count,
    events: waits.waitsNs.length,
    medianNs: quantile(waits.waitsNs, 0.5),
    p99Ns: quantile(waits.waitsNs, P99),
    longestNs: quantile(waits.waitsNs, 1),
    idleP99Ns,
    timerP99Ns: histogram.percentile(100 * P99),
  };
}
