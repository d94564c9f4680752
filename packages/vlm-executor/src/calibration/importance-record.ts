import { activationFrequencies } from "@neuron-chunking/chunk-selector";
import type { ImportanceStatistics } from "@neuron-chunking/chunk-selector";
import type { BundleInfo } from "@neuron-chunking/weight-store";

/** Quantiles that are recorded; the importance of rows at the tail decides what sparsity costs. */
const PROBABILITIES = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99];

/** What is remembered of one stored matrix's inputs: every pass is one sample. */
export class ImportanceRecord {
  /** Samples in which each original input channel was among the top 50 %. */
  readonly activeCounts: Float64Array;
  samples = 0;
  private total = 0;
  private cv = 0;
  private readonly quantiles = new Float64Array(PROBABILITIES.length);
  /** The last sample by original channel. */
  readonly original: Float32Array;

  constructor(readonly info: BundleInfo) {
    this.activeCounts = new Float64Array(info.rows);
    this.original = new Float32Array(info.rows);
  }

  /** @param importance in stored order [rows] */
  add(importance: Float32Array): void {
    const order = this.info.storedOrder;
    for (let row = 0; row < importance.length; row++) {
      this.original[order === undefined ? row : order[row]] = importance[row];
    }
    const active = activationFrequencies([this.original]);
    for (let row = 0; row < active.length; row++) this.activeCounts[row] += active[row];
    this.addMoments();
    this.samples += 1;
  }

  get statistics(): ImportanceStatistics {
    const values = Array.from(this.quantiles, (sum) => sum / this.samples);
    return {
      total: this.total / this.samples,
      cv: this.cv / this.samples,
      quantiles: { probabilities: PROBABILITIES, values },
    };
  }

  private addMoments(): void {
    const sorted = Float64Array.from(this.original).sort();
    const rows = sorted.length;
    const total = sorted.reduce((sum, value) => sum + value, 0);
    const mean = total / rows;
    this.total += total;
    // An input of zeros says nothing about the spread.
    if (mean === 0) return;
    const squares = sorted.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    this.cv += Math.sqrt(squares / rows) / mean;
    PROBABILITIES.forEach((probability, i) => {
      this.quantiles[i] += sorted[Math.floor(probability * (rows - 1))] / mean;
    });
  }
}
