import type { FlashReader, LandingBuffer } from "@neuron-chunking/flash-reader";
import { alternatingOrder, type Section } from "../alternating";
import { describeConfiguration, type FioConfiguration } from "../fio/job-file";
import { planRanges } from "../plan-ranges";
import { compare, type Compared, type Round } from "../statistics-of-rounds";
import type { Context } from "./context";
import { mixedPlans, rangesOf, type MixedPlan } from "./mixed-plans";
import type { RandomSection } from "./random-section";
import { Replay } from "./replay";
import { verifySample } from "../verify";

export interface MixedCase extends Compared {
  readonly kind: "mixed";
  readonly rowBytes: number;
  readonly keep: number;
  readonly policy: string;
  readonly backend: string;
  /** Matrices that one measurement reads. */
  readonly matrices: number;
  /** Of one measurement, as are the times. */
  readonly chunks: number;
  readonly requests: number;
  readonly bytesWanted: number;
  readonly bytesRead: number;
  readonly fioBytesRead: number | null;
  readonly fio: string | null;
}

interface Counted {
  requests: number;
  bytesRead: number;
}

interface CaseState {
  readonly mixed: MixedPlan;
  readonly replay: Replay;
  configuration: FioConfiguration | undefined;
  readonly rounds: Round[];
  counted: Counted;
}

/** Row ranges of selections, by our reader with two plans in flight (as the executor reads them) and by fio. */
export class MixedSection implements Section {
  readonly name = "mixed plans";
  readonly minRounds: number;
  readonly maxRounds: number;
  /** Ranges of the first round that were compared with the file's known content. */
  verifiedRanges = 0;
  readonly #context: Context;
  readonly #states: readonly CaseState[];
  /** Two, so that one matrix is being read while the call for the next is made. */
  readonly #landings: readonly LandingBuffer[];

  private constructor(context: Context, states: readonly CaseState[]) {
    this.#context = context;
    this.#states = states;
    this.minRounds = context.effort.minMixedRounds;
    this.maxRounds = context.effort.maxRounds;
    const reader = context.readers.chosen;
    const capacities = states.map(({ mixed }) => landingBytesOf(reader, mixed));
    this.#landings = [0, 1].map(() => {
      const landing = reader.allocate(Math.max(...capacities));
      landing.bytes.fill(1);
      return landing;
    });
  }

  /** @param folder For the iologs; the caller removes it. */
  static async prepare(
    context: Context,
    folder: string,
    random: RandomSection,
  ): Promise<MixedSection> {
    const states: CaseState[] = [];
    for (const [i, mixed] of mixedPlans(context).entries()) {
      const expectedNs = mixed.expectedNs * mixed.baseOffsetsBytes.length;
      const options = { folder, name: `case${i}`, expectedNs };
      const replay = await Replay.prepare(context, options, rangesOf(mixed));
      const counted = { requests: 0, bytesRead: 0 };
      const configuration = random.fioConfigurationFor(replay.meanBytes);
      states.push({ mixed, replay, configuration, rounds: [], counted });
    }
    if (context.effort.name === "thorough") await chooseConfigurations(context, states);
    return new MixedSection(context, states);
  }

  /** The cases of one row size and policy together: fio takes longer to start than to replay one. */
  async runRound(round: number): Promise<void> {
    const groups = groupsOf(this.#states);
    for (const [i, group] of groups.entries()) {
      const { policy, rowBytes } = group[0].mixed;
      this.#context.report(
        i / groups.length,
        `round ${round + 1}, ${policy} of rows of ${rowBytes} bytes`,
      );
      const readerNs: number[] = [];
      let fioNs: (number | null)[] = [];
      for (const contender of alternatingOrder(["reader", "fio"] as const, round)) {
        if (contender === "fio") fioNs = await this.#replay(group);
        else for (const state of group) readerNs.push(await this.#read(state));
      }
      group.forEach(({ rounds }, k) => rounds.push({ readerNs: readerNs[k], fioNs: fioNs[k] }));
    }
  }

  /** fio's time for each, ns; null without fio. */
  async #replay(states: readonly CaseState[]): Promise<(number | null)[]> {
    const { fio, target, file, signal } = this.#context;
    const jobs = states.flatMap(({ replay, configuration }) =>
      configuration ? [replay.job(configuration)] : [],
    );
    if (!fio || jobs.length === 0) return states.map(() => null);
    const results = await fio.run(jobs, target, { folder: file.folder, signal });
    return states.map(({ replay, configuration }) => {
      const result = results.find(({ name }) => name === replay.name);
      return configuration ? replay.timeNs(result, configuration) : null;
    });
  }

  /** Time for all matrices, ns. */
  async #read(state: CaseState): Promise<number> {
    const { signal, readers } = this.#context;
    const { plan, rowBytes, baseOffsetsBytes } = state.mixed;
    const counted: Counted = { requests: 0, bytesRead: 0 };
    const isFirst = state.rounds.length === 0;
    let next = 0;
    const readOnwards = async (into: LandingBuffer): Promise<void> => {
      while (next < baseOffsetsBytes.length) {
        const index = next++;
        const layout = { baseOffsetBytes: baseOffsetsBytes[index], rowBytes };
        const result = await readers.chosen.readPlan(plan, layout, { into, signal });
        counted.requests += result.requests;
        counted.bytesRead += result.bytesRead;
        if (isFirst && index === 0) {
          this.verifiedRanges += verifySample(
            result,
            planRanges(plan, rowBytes, layout.baseOffsetBytes),
          );
        }
      }
    };
    const startedAt = process.hrtime.bigint();
    // All of them have ended before anything is thrown: the landings are used again.
    const ends = await Promise.allSettled(this.#landings.map(readOnwards));
    const totalNs = Number(process.hrtime.bigint() - startedAt);
    for (const end of ends) if (end.status === "rejected") throw end.reason;
    state.counted = counted;
    return totalNs;
  }

  cases(): MixedCase[] {
    return this.#states.map(({ mixed, replay, configuration, rounds, counted }) => {
      const { rowBytes, keep, policy, plan, baseOffsetsBytes, bytesWanted } = mixed;
      const matrices = baseOffsetsBytes.length;
      return {
        kind: "mixed",
        rowBytes,
        keep,
        policy,
        backend: this.#context.readers.chosen.backend.name,
        matrices,
        chunks: matrices * plan.chunkCount,
        bytesWanted: matrices * bytesWanted,
        ...counted,
        fioBytesRead: configuration ? replay.bytes : null,
        fio: configuration ? describeConfiguration(configuration) : null,
        ...compare(rounds),
      };
    });
  }
}

function groupsOf(states: readonly CaseState[]): CaseState[][] {
  const groups = new Map<string, CaseState[]>();
  for (const state of states) {
    const key = `${state.mixed.policy} ${state.mixed.rowBytes}`;
    groups.set(key, [...(groups.get(key) ?? []), state]);
  }
  return [...groups.values()];
}

/** fio's best engine and depth for every case. */
async function chooseConfigurations(context: Context, states: readonly CaseState[]): Promise<void> {
  const { fio, target, file, signal, report } = context;
  if (!fio) return;
  report(undefined, "fio's best engines and depths for replays");
  const contests = await Promise.all(states.map(({ replay }) => replay.contest()));
  const best = await fio.bestOfEach(contests, target, { folder: file.folder, signal });
  states.forEach((state, i) => (state.configuration = best[i]));
}

function landingBytesOf(
  reader: FlashReader,
  { plan, rowBytes, baseOffsetsBytes }: MixedPlan,
): number {
  const capacities = baseOffsetsBytes.map((baseOffsetBytes) =>
    reader.landingBytesForPlan(plan, { baseOffsetBytes, rowBytes }),
  );
  return Math.max(...capacities);
}
