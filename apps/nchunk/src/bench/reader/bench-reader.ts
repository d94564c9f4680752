import { mkdtemp, rm } from "node:fs/promises";
import path from "node:path";
import { LatencyTable, type DeviceProfile } from "@neuron-chunking/latency-model";
import { withProgress } from "../../terminal/progress";
import { runRounds } from "../alternating";
import { ensureBenchFile } from "../bench-file";
import { findFio, type FoundFio } from "../fio/find-fio";
import { measureAllocation } from "./allocation";
import { measureBaselines } from "./baseline";
import type { Context } from "./context";
import type { Effort } from "./effort";
import { measureEventLoop } from "./event-loop";
import { MixedSection } from "./mixed-section";
import { openReaders, type OpenReaders } from "./open-readers";
import { RandomSection, verifyRandomReads } from "./random-section";
import { summarize, type ReaderFacts, type ReaderReport } from "./report";

const BUFFERED_NOTE =
  "This file system has no direct I/O: everything was read through the page cache, so none of this is the speed of a disk.";

/** What the comparison is and is not. */
const FIO_NOTES = [
  "fio's figures are its own; the beginning of each of its runs does not count, and its buffers may lie in huge pages, as ours do.",
  "fio replays each range of a mixed plan widened to whole blocks, as direct I/O demands; our reader also fetches " +
    "ranges that share a block once, and reads short gaps through where the profile says so.",
  "In mixed plans two matrices are in flight, as a model's layers are; fio replays all of them without a pause.",
];

/** Runs every part; `profile` says how to drive the device and prices the chunks. */
export async function benchReader(options: {
  folder: string;
  effort: Effort;
  profile: DeviceProfile;
  signal: AbortSignal;
}): Promise<ReaderReport> {
  const { folder, effort, profile, signal } = options;
  const found = await findFio({ mayInstall: effort.name !== "tiny", signal });
  const startedMs = performance.now();
  const file = await ensureBenchFile(folder, effort.fileBytes, signal);
  const readers = await openReaders(file.path, profile);
  // iologs and nothing else; gone at the end, however it ends.
  const scratch = await mkdtemp(path.join(folder, "replay-"));
  try {
    return await withProgress("Measuring the reader", async (report) => {
      const target = { fileName: file.name, directIo: readers.chosen.backend.directIo };
      const table = new LatencyTable(profile);
      const context = {
        ...{ effort, file, readers, profile, table, fio: found.fio, target },
        ...{ report, signal },
      };
      return await measure(context, found, scratch, startedMs);
    });
  } finally {
    await readers.close();
    await rm(scratch, { recursive: true, force: true });
  }
}

async function measure(
  context: Context,
  found: FoundFio,
  scratch: string,
  startedMs: number,
): Promise<ReaderReport> {
  const { effort, file, readers, profile } = context;
  const partsMs: Record<string, number> = { file: performance.now() - startedMs };
  const timed = async <T>(part: string, work: Promise<T>): Promise<T> => {
    const begunMs = performance.now();
    const result = await work;
    partsMs[part] = performance.now() - begunMs;
    return result;
  };
  // First: what other parts leave to the garbage collector would hold up the event loop.
  const eventLoop = await timed("eventLoop", measureEventLoop(context));
  const allocation = await timed("allocation", measureAllocation(context));
  const baselines = await timed("baselines", measureBaselines(context));
  const randomSection = await timed("randomSweep", RandomSection.prepare(context));
  const mixedSection = await timed(
    "mixedSweep",
    MixedSection.prepare(context, scratch, randomSection),
  );
  const verifiedRandom = await timed("verifyRandom", verifyRandomReads(context));
  const remainingMs = (): number => startedMs + effort.budgetMs - performance.now();
  await timed("rounds", runRounds([randomSection, mixedSection], remainingMs));
  const random = randomSection.cases();
  const mixed = mixedSection.cases();
  return {
    bench: "reader",
    effort: effort.name,
    file: { path: file.path, sizeBytes: file.sizeBytes },
    profile: { name: profile.name },
    reader: factsOf(readers),
    fioVersion: found.fio?.version ?? null,
    cases: [...random, ...mixed],
    baselines,
    eventLoopDelayP99Ns: eventLoop.p99Ns,
    eventLoopIdleP99Ns: eventLoop.idleP99Ns,
    eventLoop,
    allocation,
    verifiedRanges: verifiedRandom + mixedSection.verifiedRanges,
    summary: summarize(random, mixed),
    notes: [
      ...(readers.chosen.backend.directIo ? [] : [BUFFERED_NOTE]),
      ...(found.note ? [found.note] : []),
      ...(found.fio ? FIO_NOTES : []),
    ],
    partsMs,
    elapsedMs: performance.now() - startedMs,
  };
}

function factsOf({ chosen, refused }: OpenReaders): ReaderFacts {
  const { name, tier, directIo } = chosen.backend;
  const { alignmentBytes, tuning } = chosen;
  return { backend: name, tier, directIo, alignmentBytes, tuning, refused };
}
