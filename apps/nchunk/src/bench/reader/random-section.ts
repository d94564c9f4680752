import type { FlashReader } from "@neuron-chunking/flash-reader";
import { uniformGenerator } from "../../random";
import { formatBytes } from "../../terminal/format";
import { alternatingOrder, type Section } from "../alternating";
import { describeConfiguration, type FioConfiguration } from "../fio/job-file";
import { randomThroughput, requireMeasured } from "../fio/parse-output";
import { compare, type Compared, type Round } from "../statistics-of-rounds";
import type { Context } from "./context";
import { randomCandidates } from "./effort";
import { allocateLandings, batchReads, RandomPlaces, RandomReads } from "./random-reads";
import { verifySample } from "../verify";

const VERIFY_SEED = 3;
const VERIFIED_READS = 8;

export interface RandomCase extends Compared {
  readonly kind: "random";
  readonly sizeBytes: number;
  readonly backend: string;
  /** Reads of one batch. */
  readonly batchReads: number;
  /** fio's engine and depth, the fastest of a short sweep. */
  readonly fio: string | null;
  /** The other backends of the reader, in the same rounds. */
  readonly backends: Record<string, Compared>;
}

interface Contender {
  readonly name: string;
  measureNs(): Promise<number>;
}

interface SizeState {
  readonly sizeBytes: number;
  readonly fioConfiguration: FioConfiguration | undefined;
  readonly contenders: readonly Contender[];
  /** By contender, ns per read of each round. */
  readonly samplesNs: Map<string, number[]>;
}

const FIO = "fio";

/** Random reads of every size: our backends and fio in turn. */
export class RandomSection implements Section {
  readonly name = "random reads";
  readonly minRounds: number;
  readonly maxRounds: number;
  readonly #context: Context;
  readonly #states: readonly SizeState[];

  private constructor(context: Context, states: readonly SizeState[]) {
    this.#context = context;
    this.#states = states;
    this.minRounds = context.effort.minRandomRounds;
    this.maxRounds = context.effort.maxRounds;
  }

  /** Finds fio's best engine and depth for every size; what it measured there does not count. */
  static async prepare(context: Context): Promise<RandomSection> {
    const { effort, readers } = context;
    const landings = new Map(
      // The chosen one last: in every order it runs next to fio.
      [...readers.others, readers.chosen].map((reader) => [
        reader,
        allocateLandings(reader, effort.sizesBytes),
      ]),
    );
    const best = await bestConfigurations(context);
    const states = effort.sizesBytes.map((sizeBytes, i): SizeState => {
      const fioConfiguration = best[i];
      // One for all of them: a place that another has just read may be in a cache.
      const places = new RandomPlaces(context.file.sizeBytes, sizeBytes, Math.random);
      const ours = [...landings].map(([reader, buffers]): Contender => {
        const reads = new RandomReads(reader, places, buffers);
        const expectedNs = context.table.latencyNs(sizeBytes);
        return {
          name: reader.backend.name,
          measureNs: () => reads.measureNs(effort.sampleMs * 1e6, expectedNs, context.signal),
        };
      });
      const theirs = fioConfiguration && [fioContender(context, sizeBytes, fioConfiguration)];
      const contenders = [...ours, ...(theirs ?? [])];
      const samplesNs = new Map(contenders.map(({ name }) => [name, [] as number[]]));
      return { sizeBytes, fioConfiguration, contenders, samplesNs };
    });
    return new RandomSection(context, states);
  }

  /** fio's best configuration for random reads of about this size; undefined without fio. */
  fioConfigurationFor(sizeBytes: number): FioConfiguration | undefined {
    const distance = (state: SizeState): number => Math.abs(Math.log(state.sizeBytes / sizeBytes));
    return this.#states.reduce((nearest, state) =>
      distance(state) < distance(nearest) ? state : nearest,
    ).fioConfiguration;
  }

  async runRound(round: number): Promise<void> {
    for (const [i, { sizeBytes, contenders, samplesNs }] of this.#states.entries()) {
      this.#context.report(
        i / this.#states.length,
        `round ${round + 1}, random reads of ${formatBytes(sizeBytes)}`,
      );
      // One after another: two at once would share the device.
      for (const contender of alternatingOrder(contenders, round)) {
        samplesNs.get(contender.name)?.push(await contender.measureNs());
      }
    }
  }

  cases(): RandomCase[] {
    const { chosen, others } = this.#context.readers;
    return this.#states.map(({ sizeBytes, fioConfiguration, samplesNs }) => {
      const comparedOf = (reader: FlashReader): Compared => {
        const fioNs = samplesNs.get(FIO);
        const rounds = (samplesNs.get(reader.backend.name) ?? []).map((readerNs, round): Round => ({
          readerNs,
          fioNs: fioNs?.[round] ?? null,
        }));
        return compare(rounds);
      };
      return {
        kind: "random",
        sizeBytes,
        backend: chosen.backend.name,
        batchReads: batchReads(sizeBytes),
        fio: fioConfiguration ? describeConfiguration(fioConfiguration) : null,
        ...comparedOf(chosen),
        backends: Object.fromEntries(
          others.map((reader) => [reader.backend.name, comparedOf(reader)]),
        ),
      };
    });
  }
}

async function bestConfigurations(context: Context): Promise<(FioConfiguration | undefined)[]> {
  const { fio, effort, target, file, signal, report } = context;
  if (!fio) return [];
  report(undefined, "fio's best engines and depths");
  const contests = effort.sizesBytes.map((sizeBytes) => ({
    candidates: randomCandidates(effort, sizeBytes),
    work: { sizeBytes, runtimeMs: effort.sweepMs, rampMs: effort.rampMs },
  }));
  return fio.bestOfEach(contests, target, { folder: file.folder, signal });
}

function fioContender(
  { fio, effort, target, file, signal }: Context,
  sizeBytes: number,
  configuration: FioConfiguration,
): Contender {
  const work = { sizeBytes, runtimeMs: effort.sampleMs, rampMs: effort.rampMs };
  const jobs = [{ name: "random", configuration, work }];
  return {
    name: FIO,
    measureNs: async () => {
      const [result] = (await fio?.run(jobs, target, { folder: file.folder, signal })) ?? [];
      return sizeBytes / requireMeasured(result ? randomThroughput(result, sizeBytes) : 0);
    },
  };
}

/** One batch of every size with every backend, compared with the file's known content. */
export async function verifyRandomReads({ effort, readers, signal }: Context): Promise<number> {
  let verified = 0;
  for (const reader of [readers.chosen, ...readers.others]) {
    for (const sizeBytes of effort.sizesBytes) {
      const places = new RandomPlaces(reader.sizeBytes, sizeBytes, uniformGenerator(VERIFY_SEED));
      const count = Math.min(VERIFIED_READS, Math.floor(reader.sizeBytes / sizeBytes));
      const offsetsBytes = new Float64Array(count);
      places.draw(offsetsBytes, count);
      const lengthsBytes = new Float64Array(count).fill(sizeBytes);
      const result = await reader.read({ offsetsBytes, lengthsBytes, count }, { signal });
      const ranges = Array.from(offsetsBytes, (offsetBytes) => ({
        offsetBytes,
        lengthBytes: sizeBytes,
      }));
      verified += verifySample(result, ranges);
    }
  }
  return verified;
}
