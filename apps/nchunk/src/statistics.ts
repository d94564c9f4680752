/** Linear interpolation between order statistics; `values` is left as it is, and must not be empty. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (at - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** (largest - smallest) / median: how far repeats of one measurement lie apart. 0.05 is 5 %. */
export const relativeSpread = (values: readonly number[]): number =>
  (Math.max(...values) - Math.min(...values)) / median(values);
