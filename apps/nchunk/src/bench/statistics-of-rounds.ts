import { median, quantile, relativeSpread } from "../statistics";

/** One round of a comparison: our time and fio's, ns; null where fio is missing. */
export interface Round {
  readonly readerNs: number;
  readonly fioNs: number | null;
}

export interface Compared {
  readonly readerNs: number;
  readonly fioNs: number | null;
  /** Our throughput over fio's: the median of the rounds' own ratios, so that drift between rounds cancels. */
  readonly ratioToFio: number | null;
  readonly rounds: readonly Round[];
}

export function compare(rounds: readonly Round[]): Compared {
  const withFio = rounds.flatMap(({ readerNs, fioNs }) =>
    fioNs === null ? [] : [{ fioNs, ratio: fioNs / readerNs }],
  );
  return {
    readerNs: median(rounds.map(({ readerNs }) => readerNs)),
    fioNs: withFio.length > 0 ? median(withFio.map(({ fioNs }) => fioNs)) : null,
    ratioToFio: withFio.length > 0 ? median(withFio.map(({ ratio }) => ratio)) : null,
    rounds,
  };
}

/** Shares: 0.05 is 5 %. */
export interface Noise {
  /** Medians over the cases of (largest - smallest) / median between the rounds; null with fewer than two rounds. */
  readonly readerSpread: number | null;
  readonly fioSpread: number | null;
  readonly ratioSpread: number | null;
  /** Of the noisiest case. */
  readonly worstRatioSpread: number | null;
}

const spreads = (cases: readonly Compared[], of: (round: Round) => number | null): number[] =>
  cases.flatMap(({ rounds }) => {
    const values = rounds.map(of).filter((value) => value !== null);
    return values.length > 1 ? [relativeSpread(values)] : [];
  });

const at = (values: readonly number[], share: number): number | null =>
  values.length > 0 ? quantile(values, share) : null;

/** How far the rounds lie apart: no difference smaller than this means anything. */
export function noiseOf(cases: readonly Compared[]): Noise {
  const ratios = spreads(cases, ({ readerNs, fioNs }) => fioNs && fioNs / readerNs);
  return {
    readerSpread: at(
      spreads(cases, ({ readerNs }) => readerNs),
      0.5,
    ),
    fioSpread: at(
      spreads(cases, ({ fioNs }) => fioNs),
      0.5,
    ),
    ratioSpread: at(ratios, 0.5),
    worstRatioSpread: at(ratios, 1),
  };
}
