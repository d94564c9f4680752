import { performance } from "node:perf_hooks";
import { LatencyTable } from "@neuron-chunking/latency-model";
import type {
  DeviceProfile,
  ProfileReader,
  ReaderBackendName,
  ReaderTuning,
} from "@neuron-chunking/latency-model";
import { completeTuning } from "../tuning.js";
import { measureBatches } from "./batch-validation.js";
import type { BatchMeasurement } from "./batch-validation.js";
import type { Bench, OnFraction } from "./bench.js";
import { cachedBytesOf, cacheGrew, tooFast } from "./cache-check.js";
import type { CacheSuspicion } from "./cache-check.js";
import type { DeviceFacts } from "./device-facts.js";
import { noiseOf } from "./noise.js";
import type { UnloadedReads } from "./noise.js";
import type { Progress } from "./progress.js";
import { sweepQueue } from "./queue-sweep.js";
import { readThroughFromTable, verifyReadThrough } from "./read-through.js";
import { sweepRequestBytes } from "./request-sweep.js";
import { asCurve } from "./saturated-curve.js";
import type { SaturatedCurve } from "./saturated-curve.js";
import { measureTable } from "./table.js";
import { measureUnloaded } from "./unloaded.js";

/** Reads that a device is warmed up with. */
const WARM_UP_BYTES = 64 << 10;

/** The measured parts of a profile. */
export type Measurement = Required<
  Pick<
    DeviceProfile,
    | "reader"
    | "table"
    | "saturationBytes"
    | "tailNsPerByte"
    | "noise"
    | "samples"
    | "backends"
    | "queue"
    | "batchModel"
    | "validation"
    | "rounds"
  >
>;

/** Why a measurement says nothing about the device, if so (P2). */
export interface Judged {
  readonly measurement: Measurement;
  readonly suspicion: CacheSuspicion | undefined;
}

/**
 * Everything that reads the probe file, in the order in which one part needs another: queue settings,
 * request size, T[s], gaps, batches.
 */
export async function measureDevice(
  bench: Bench,
  facts: DeviceFacts,
  progress: Progress,
): Promise<Judged> {
  const { readers } = bench;
  const backends = await readers.backends();
  const cachedBefore = await cachedBytesOf(readers.path);
  await warmUp(bench, backends[0], progress);
  const { tuning: found, queue } = await sweepQueue(bench, backends, progress.of("queue"));
  const maxRequestBytes = await sweepRequestBytes(
    bench,
    backends[0],
    found,
    facts.maxRequestBytes,
    progress.of("request-size"),
  );
  const split = { ...found, maxRequestBytes };
  const measured = await measureTable(bench, backends, split, progress.of("table"));
  const backend = measured.chosen.name;
  const curve = asCurve(measured.chosen.table);
  const tuning = await readThroughTuning(
    bench,
    { ...completeTuning(split), backend },
    curve,
    progress.of("gaps"),
  );
  const { reader, small, ...batches } = await measureChosen(
    bench,
    tuning,
    curve,
    progress.of("batches"),
  );
  const suspicion =
    tooFast(curve.table, facts.linkBytesPerSecond) ??
    cacheGrew(cachedBefore, await cachedBytesOf(readers.path));
  const { samples } = measured.chosen;
  const noise = noiseOf(measured, small);
  const { rounds, backends: tables } = measured;
  return {
    measurement: { reader, ...curve, noise, samples, backends: tables, queue, ...batches, rounds },
    // Buffered reads are meant to be answered by the page cache.
    suspicion: reader.directIo ? suspicion : undefined,
  };
}

/** What the reader as it will be used does beyond T[s] (P5). */
async function measureChosen(
  bench: Bench,
  tuning: ReaderTuning,
  curve: SaturatedCurve,
  onFraction: OnFraction,
): Promise<BatchMeasurement & { reader: ProfileReader; small: UnloadedReads }> {
  const opened = await bench.readers.open(tuning, tuning.backend);
  const { backend, threads } = tuning;
  const { directIo } = opened.backend;
  const unloaded = await measureUnloaded(bench, opened);
  const table = new LatencyTable({
    schemaVersion: 1,
    name: "measured",
    origin: "measured",
    source: "this profile",
    ...curve,
  });
  const batches = await measureBatches(bench, opened, table, unloaded.curve, onFraction);
  const { alignmentBytes } = opened;
  await bench.readers.close(opened);
  return {
    ...batches,
    reader: { backend, directIo, threads, alignmentBytes, tuning },
    small: unloaded.small,
  };
}

/** Brings device, kernel and processor to the speed at which they will be measured (P1). */
async function warmUp(
  { readers, reads, effort }: Bench,
  backend: ReaderBackendName,
  progress: Progress,
): Promise<void> {
  const onFraction = progress.of("warm-up");
  const reader = await readers.open({}, backend);
  const read = reads.candidate({
    reader,
    sizeBytes: WARM_UP_BYTES,
    inFlight: reader.tuning.threads,
  });
  const startedMs = performance.now();
  const lastsMs = effort.warmUpNs / 1e6;
  for (let elapsedMs = 0; elapsedMs < lastsMs; elapsedMs = performance.now() - startedMs) {
    await read();
    onFraction(Math.min(1, elapsedMs / lastsMs));
  }
  await readers.close(reader);
}

async function readThroughTuning(
  bench: Bench,
  tuning: ReaderTuning,
  { table, saturationBytes }: SaturatedCurve,
  onFraction: OnFraction,
): Promise<ReaderTuning> {
  const reader = await bench.readers.open(tuning, tuning.backend);
  const { alignmentBytes } = reader;
  await bench.readers.close(reader);
  const { sizesBytes, latencyNs } = table;
  const gapBytes = readThroughFromTable(sizesBytes, latencyNs, saturationBytes, alignmentBytes);
  if (gapBytes === 0) return { ...tuning, readThroughBytes: 0 };
  return {
    ...tuning,
    readThroughBytes: await verifyReadThrough(bench, tuning, gapBytes, onFraction),
  };
}
