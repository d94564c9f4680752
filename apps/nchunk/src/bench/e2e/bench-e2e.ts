import os from "node:os";
import type { DeviceProfile } from "@neuron-chunking/latency-model";
import type { Arithmetic } from "@neuron-chunking/vlm-executor";
import { cacheFolder } from "../../cache";
import { withProgress } from "../../terminal/progress";
import { benchModel, ensureGguf, ensureImage } from "./bench-model";
import { runCases } from "./case-section";
import type { Effort } from "./effort";
import type { ModelShape } from "./model-shape";
import { createMemoryCgroup, type MemoryCgroup } from "./memory-cgroup";
import { ensureNodeLlamaCpp, NODE_LLAMA_CPP_VERSION, type InstallResult } from "./node-llama-cpp";
import { NO_TIME_LEFT, runPeer } from "./peer-section";
import { ReadAhead } from "./read-ahead";
import { summarize, type E2eReport, type PeerCase } from "./report";

/** Of all weights. */
const SEED = 1;

export interface BenchE2eOptions {
  readonly folder: string;
  readonly effort: Effort;
  readonly profile: DeviceProfile;
  /** Of the cases; beside llama.cpp it is f32. */
  readonly arithmetic: Arithmetic;
  /** Whether llama.cpp is compared with. */
  readonly peer: boolean;
  /** What the kernel is to read ahead while llama.cpp runs; undefined: as the system has it. */
  readonly peerReadAheadBytes: number | undefined;
  /** When the verb began, by `performance.now()`. */
  readonly startedMs: number;
  readonly signal: AbortSignal;
}

interface Compared {
  readonly peer: readonly PeerCase[];
  readonly peerSkipped?: string;
}

const loadPerCore = (): number => os.loadavg()[0] / os.availableParallelism();

/** Runs all cases, then the comparison. Throws DISK_FULL, BENCH_FAILED or the signal's reason. */
export async function benchE2e(options: BenchE2eOptions): Promise<E2eReport> {
  const { folder, effort, profile, arithmetic, signal } = options;
  const loadBefore = loadPerCore();
  const readAhead = await ReadAhead.of(folder);
  if (options.peerReadAheadBytes !== undefined) await readAhead.requireSettable();
  const model = await benchModel(folder, effort.shape, SEED);
  // One waits for the network while the other writes; neither runs while something is measured.
  const [imageDir, installed] = await Promise.all([
    ensureImage(model, SEED, signal),
    installPeer(options),
  ]);
  const { cases, overlaps } = await withProgress("Measuring", (report) =>
    runCases({ model, imageDir, work: effort.work, profile, arithmetic, report, signal }),
  );
  const compared = await compare(options, readAhead, installed);
  const notes = [effort.shape.note ?? ""];
  if (compared.peer.length > 0 && effort.peerShape?.note !== undefined) {
    notes.push(`Beside llama.cpp: ${effort.peerShape.note}`);
  }
  return {
    bench: "e2e",
    effort: effort.name,
    seed: SEED,
    cases,
    ...compared,
    summary: summarize(cases, overlaps, compared.peer),
    profile: { name: profile.name },
    note: notes.filter(Boolean).join(" "),
    conditions: {
      threads: os.availableParallelism(),
      arithmetic,
      loadPerCore: [loadBefore, loadPerCore()],
      readAheadBytes: await readAhead.bytes(),
      peerVersion: compared.peer.length > 0 ? `node-llama-cpp ${NODE_LLAMA_CPP_VERSION}` : null,
    },
  };
}

/** Where llama.cpp is, or why it is not compared with. */
async function installPeer({ peer, effort, signal }: BenchE2eOptions): Promise<InstallResult> {
  if (!peer) return { reason: "It was not asked for (--no-peer)." };
  if (effort.peerShape === undefined) {
    return { reason: "A tiny run measures nothing worth comparing." };
  }
  const { group, reason } = await createMemoryCgroup();
  if (group === undefined) return { reason };
  await group.remove();
  return ensureNodeLlamaCpp(await cacheFolder("peer"), signal);
}

async function compare(
  options: BenchE2eOptions,
  readAhead: ReadAhead,
  installed: InstallResult,
): Promise<Compared> {
  const { peerShape } = options.effort;
  if (installed.dir === undefined) return { peer: [], peerSkipped: installed.reason };
  if (peerShape === undefined || remainingMs(options) <= 0) {
    return { peer: [], peerSkipped: NO_TIME_LEFT };
  }
  const { group, reason } = await createMemoryCgroup();
  if (group === undefined) return { peer: [], peerSkipped: reason };
  try {
    return {
      peer: await comparePeer(options, peerShape, { group, readAhead, moduleDir: installed.dir }),
    };
  } finally {
    await group.remove();
  }
}

/** Where little is read ahead llama.cpp takes what it takes: who asks for that wants its figure. */
const remainingMs = ({ startedMs, effort, peerReadAheadBytes }: BenchE2eOptions): number =>
  peerReadAheadBytes === undefined ? effort.budgetMs - (performance.now() - startedMs) : Infinity;

async function comparePeer(
  options: BenchE2eOptions,
  peerShape: ModelShape,
  where: { group: MemoryCgroup; readAhead: ReadAhead; moduleDir: string },
): Promise<PeerCase[]> {
  const { folder, effort, profile, signal } = options;
  const model = await benchModel(folder, peerShape, SEED);
  const imageDir = await ensureImage(model, SEED, signal);
  const ggufFile = await ensureGguf(model, SEED, signal);
  return withProgress("Comparing with llama.cpp", (report) =>
    runPeer({
      model,
      imageDir,
      ggufFile,
      ...where,
      peerReadAheadBytes: options.peerReadAheadBytes,
      work: effort.peerWork,
      rounds: effort.budgetMs < remainingMs(options) ? 1 : effort.peerRounds,
      withDense: effort.peerDense,
      profile,
      remainingMs: () => remainingMs(options),
      report,
      signal,
    }),
  );
}
