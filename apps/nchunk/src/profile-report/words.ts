import type { DeviceProfile, FitQuality, ProfileRound } from "@neuron-chunking/latency-model";
import { formatBytes, formatPercent } from "../terminal/format";

/** Shares of the median between which a measurement is called so. */
const QUIET = 0.02;
const SOMEWHAT_NOISY = 0.05;
const NOISY = 0.15;

const plural = (count: number, word: string): string => `${count} ${word}${count === 1 ? "" : "s"}`;

/** How reads will be issued, as measured. */
export function tuningInWords({ reader }: DeviceProfile): string {
  const tuning = reader?.tuning;
  if (!tuning) return "not measured; the reader's defaults apply.";
  const inFlight = `at most ${formatBytes(tuning.maxBytesInFlight)} in flight`;
  const how =
    tuning.backend === "io_uring"
      ? `io_uring, up to ${plural(tuning.queueDepth, "request")} and ${inFlight}, refilled ${tuning.submitBatch} at a time`
      : `a pool of ${plural(tuning.threads, "thread")}, ${inFlight}`;
  const gaps =
    tuning.readThroughBytes > 0
      ? `gaps of up to ${formatBytes(tuning.readThroughBytes)} are read through`
      : "no gap is read through";
  return `${how}; reads over ${formatBytes(tuning.maxRequestBytes)} are split; ${gaps}.`;
}

function level(spread: number): string {
  if (spread < QUIET) return "Quiet";
  if (spread < SOMEWHAT_NOISY) return "A little noisy";
  return spread < NOISY ? "Noisy" : "Very noisy";
}

/** How much the measurement can be trusted. */
export function noiseInWords({ noise, rounds }: DeviceProfile): string {
  const parts: string[] = [];
  const spread = noise?.["relativeSpread"];
  if (spread !== undefined) {
    const worst = noise?.["worstRelativeSpread"];
    const atWorst = worst === undefined ? "" : `, at the worst ${formatPercent(worst)}`;
    parts.push(
      `${level(spread)}: the middle half of the rounds differs by ${formatPercent(spread)} at a typical size${atWorst}.`,
    );
  }
  if (rounds && rounds.length > 0) {
    const count = (is: (round: ProfileRound) => boolean): number => rounds.filter(is).length;
    const flagged = count((round) => round.flagged && !round.rejected);
    const rejected = count((round) => round.rejected);
    parts.push(
      `Of ${plural(rounds.length, "round")}, flagged for deviating: ${flagged}, rejected and repeated: ${rejected}.`,
    );
  }
  return parts.length > 0 ? parts.join(" ") : "not measured.";
}

const qualityInWords = ({ r2, mape }: FitQuality): string =>
  `R² ${r2.toFixed(3)}, mean error ${formatPercent(mape)}`;

/** How well the profile predicts reads that took no part in its fit. */
export function validationInWords({ validation }: DeviceProfile): string {
  if (!validation || validation.masks.length === 0) return "not measured.";
  const { masks, sum, batch } = validation;
  return (
    `On ${plural(masks.length, "mask")} held out of the fit, the sum of T[s] has ${qualityInWords(sum)} ` +
    `(after a proportional calibration), the batch model ${qualityInWords(batch)}.`
  );
}

export function saturationInWords({ saturationBytes }: DeviceProfile): string {
  return `${formatBytes(saturationBytes)} per read reach 99 % of the peak throughput.`;
}
