import type { DeviceProfile } from "@neuron-chunking/latency-model";
import { median, quantile, relativeSpread } from "../../statistics";
import { contenderKey, IO_POLICIES, type IoPolicy } from "./contenders";
import { medianSample, type MatrixSection, type RoundSample } from "./matrix-section";

/** Lagrange in one pass, at a price that reaches the importance, and overshoots it where no price meets it. */
export interface AtPrice {
  readonly importance: number;
  readonly selectNs: number;
  readonly readNs: number;
  readonly ratioToTopk: number;
  readonly ratioToPlainTopk: number;
  /** Of reordered cases, as `IoCase` has it. */
  readonly ratioToPlainTopkInOriginalOrder: number | null;
}

/** One policy on one matrix, stored in one order. Times and counts are of one input, medians. */
export interface IoCase {
  readonly model: string;
  readonly bundle: string;
  readonly bundled: boolean;
  /** Rows that were measured: less than `modelRows` where there was no time for all. */
  readonly rows: number;
  readonly modelRows: number;
  readonly rowBytes: number;
  /** Share of the rows that Algorithm 1 keeps, which sets the importance that all keep. */
  readonly keep: number;
  /** Coefficient of variation of the importances. */
  readonly variation: number;
  readonly policy: IoPolicy;
  /** Whether the rows are stored in hot-cold order. */
  readonly reordered: boolean;
  /** Share of the total importance that the plan keeps. */
  readonly importance: number;
  readonly selectNs: number;
  readonly readNs: number;
  /** Top-k's (selection + read) time over this policy's, both with gaps read through; more is better. */
  readonly ratioToTopk: number;
  /** The same over top-k without, as the paper's baseline reads. */
  readonly ratioToPlainTopk: number;
  /**
   * Of reordered cases, at the importance that Algorithm 1 keeps in the original order: this policy's time in the
   * original order over its time in hot-cold order.
   */
  readonly ratioToOriginalOrder: number | null;
  /** The same for the time of plain top-k in the original order: what selection and reordering gain together. */
  readonly ratioToPlainTopkInOriginalOrder: number | null;
  /** Of lagrange; null for others. */
  readonly atPrice: AtPrice | null;
  readonly rowsRead: number;
  readonly chunks: number;
  readonly requests: number;
  readonly bytesRead: number;
  readonly rounds: number;
  /** (largest - smallest) / median of `ratioToTopk` between the rounds; null with fewer than two. */
  readonly ratioSpread: number | null;
}

/** Of ratios, over cases; arithmetic mean, as the paper gives it. */
export interface Distribution {
  readonly mean: number;
  readonly best: number;
  readonly worst: number;
  readonly median: number;
  readonly quantiles: Readonly<Record<"p10" | "p25" | "p75" | "p90", number>>;
  readonly cases: number;
  /** Cases in which the policy is slower than what it is compared with. */
  readonly losses: number;
}

export interface IoSummary {
  /** Over top-k with gaps read through like everything else. */
  readonly chunk: Distribution;
  readonly lagrange: Distribution;
  /** Over top-k without, the paper's baseline; `topk` is what reading through gains it. */
  readonly plain: Readonly<Record<IoPolicy, Distribution>>;
  /** Lagrange at a fixed price, in one pass, as a model that runs by one price selects. */
  readonly atPrice: {
    readonly overTopk: Distribution;
    readonly overPlainTopk: Distribution;
    readonly together: Distribution;
  };
  /** Time in the original order over time in hot-cold order, at equal importance. */
  readonly reordering: Readonly<Record<IoPolicy, Distribution>>;
  /** Plain top-k in the original order over the policy in hot-cold order, at equal importance. */
  readonly together: Readonly<Record<"chunk" | "lagrange", Distribution>>;
  /** Algorithm 1's time over lagrange's. */
  readonly lagrangeOverChunk: Distribution;
  readonly byModel: readonly (Readonly<Record<"chunk" | "lagrange", Distribution>> & {
    readonly model: string;
  })[];
}

export interface IoReport {
  readonly bench: "io";
  readonly effort: string;
  readonly file: { readonly path: string; readonly sizeBytes: number };
  readonly profile: Pick<DeviceProfile, "name" | "noise">;
  readonly reader: { readonly tier: string; readonly directIo: boolean; readonly tuning: unknown };
  readonly cases: readonly IoCase[];
  readonly summary: IoSummary;
  readonly rounds: { readonly least: number; readonly most: number };
  /** How far rounds of one case lie apart: over the cases with two rounds or more, median and worst. */
  readonly noise: { readonly ratioSpread: number | null; readonly worstRatioSpread: number | null };
  /** Of the system, in the minute before the bench. */
  readonly loadPerCore: number;
  readonly verifiedRanges: number;
  readonly notes: readonly string[];
  readonly elapsedMs: number;
}

const totalNs = ({ selectNs, readNs }: RoundSample): number => selectNs + readNs;

/** Their time over ours in each round, so that drift between rounds cancels. */
const ratiosOf = (section: MatrixSection, ours: string, theirs: string): number[] => {
  const others = section.roundsOf(theirs);
  return section.roundsOf(ours).map((round, i) => totalNs(others[i]) / totalNs(round));
};

function atPriceOf(section: MatrixSection, arrangement: "original" | "hotCold"): AtPrice {
  const key = contenderKey("price", arrangement);
  const { importance, selectNs, readNs } = medianSample(section.roundsOf(key));
  const over = (plain: boolean): number =>
    median(ratiosOf(section, key, contenderKey("topk", arrangement, !plain)));
  const together = ratiosOf(
    section,
    contenderKey("price", "hotColdAtOriginal"),
    contenderKey("topk", "original", false),
  );
  return {
    ...{ importance, selectNs, readNs },
    ratioToTopk: over(false),
    ratioToPlainTopk: over(true),
    ratioToPlainTopkInOriginalOrder: arrangement === "hotCold" ? median(together) : null,
  };
}

/** Both orders and every policy of one matrix. */
export function casesOf(section: MatrixSection): IoCase[] {
  const { shape, keep, variation } = section.setting;
  return (["original", "hotCold"] as const).flatMap((arrangement) =>
    IO_POLICIES.map((policy): IoCase => {
      const key = contenderKey(policy, arrangement);
      const reordered = arrangement === "hotCold";
      const rounds = section.roundsOf(key);
      const { selectNs, readNs, importance, rows, ...counts } = medianSample(rounds);
      const ratios = ratiosOf(section, key, contenderKey("topk", arrangement));
      const plain = ratiosOf(section, key, contenderKey("topk", arrangement, false));
      const atOriginal = contenderKey(policy, "hotColdAtOriginal");
      const overOriginal = (theirs: string): number | null =>
        reordered ? median(ratiosOf(section, atOriginal, theirs)) : null;
      return {
        ...shape,
        rows: section.rows,
        modelRows: shape.rows,
        ...{ keep, variation, policy, reordered, importance, selectNs, readNs },
        ratioToTopk: median(ratios),
        ratioToPlainTopk: median(plain),
        ratioToOriginalOrder: overOriginal(contenderKey(policy, "original")),
        ratioToPlainTopkInOriginalOrder: overOriginal(contenderKey("topk", "original", false)),
        atPrice: policy === "lagrange" ? atPriceOf(section, arrangement) : null,
        rowsRead: rows,
        ...counts,
        rounds: rounds.length,
        ratioSpread: rounds.length > 1 ? relativeSpread(ratios) : null,
      };
    }),
  );
}

export function distributionOf(ratios: readonly number[]): Distribution {
  return {
    mean: ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length,
    best: Math.max(...ratios),
    worst: Math.min(...ratios),
    median: median(ratios),
    quantiles: {
      p10: quantile(ratios, 0.1),
      p25: quantile(ratios, 0.25),
      p75: quantile(ratios, 0.75),
      p90: quantile(ratios, 0.9),
    },
    cases: ratios.length,
    losses: ratios.filter((ratio) => ratio < 1).length,
  };
}

/** @param cases Of all matrices. @param sections The same matrices: one policy over another is by round too. */
export function summarize(cases: readonly IoCase[], sections: readonly MatrixSection[]): IoSummary {
  const over = (
    ratio: (one: IoCase) => number | null,
    policy: IoPolicy,
    among: readonly IoCase[] = cases,
  ): Distribution =>
    distributionOf(
      among
        .filter((one) => one.policy === policy)
        .map(ratio)
        .filter((value) => value !== null),
    );
  const toTopk = ({ ratioToTopk }: IoCase): number => ratioToTopk;
  const toPlain = ({ ratioToPlainTopk }: IoCase): number => ratioToPlainTopk;
  const toOriginal = ({ ratioToOriginalOrder }: IoCase): number | null => ratioToOriginalOrder;
  const together = (one: IoCase): number | null => one.ratioToPlainTopkInOriginalOrder;
  const lagrangeOverChunk = sections.flatMap((section) =>
    (["original", "hotCold"] as const).map((arrangement) =>
      median(
        ratiosOf(
          section,
          contenderKey("lagrange", arrangement),
          contenderKey("chunk", arrangement),
        ),
      ),
    ),
  );
  const ofAll = (ratio: (one: IoCase) => number | null): Record<IoPolicy, Distribution> => ({
    topk: over(ratio, "topk"),
    chunk: over(ratio, "chunk"),
    lagrange: over(ratio, "lagrange"),
  });
  const models = [...new Set(cases.map(({ model }) => model))];
  return {
    chunk: over(toTopk, "chunk"),
    lagrange: over(toTopk, "lagrange"),
    plain: ofAll(toPlain),
    atPrice: {
      overTopk: over(({ atPrice }) => atPrice && atPrice.ratioToTopk, "lagrange"),
      overPlainTopk: over(({ atPrice }) => atPrice && atPrice.ratioToPlainTopk, "lagrange"),
      together: over(
        ({ atPrice }) => atPrice && atPrice.ratioToPlainTopkInOriginalOrder,
        "lagrange",
      ),
    },
    reordering: ofAll(toOriginal),
    together: { chunk: over(together, "chunk"), lagrange: over(together, "lagrange") },
    lagrangeOverChunk: distributionOf(lagrangeOverChunk),
    byModel: models.map((model) => {
      const among = cases.filter((one) => one.model === model);
      return {
        model,
        chunk: over(toTopk, "chunk", among),
        lagrange: over(toTopk, "lagrange", among),
      };
    }),
  };
}

export function noiseOf(cases: readonly IoCase[]): IoReport["noise"] {
  const spreads = cases
    // Top-k's own ratio is 1 in every round.
    .filter(({ policy }) => policy !== "topk")
    .map(({ ratioSpread }) => ratioSpread)
    .filter((spread) => spread !== null);
  if (spreads.length === 0) return { ratioSpread: null, worstRatioSpread: null };
  return { ratioSpread: median(spreads), worstRatioSpread: Math.max(...spreads) };
}
