import { MAX_LANES, readBatchParameters, type BatchModelParameters } from "./batch-parameters.js";
import type { ChunkPlan } from "./chunk-plan.js";
import { LaneSchedule } from "./lane-schedule.js";
import { interpolate, type LatencyCurve } from "./latency-curve.js";
import type { LatencyTable } from "./latency-table.js";
import { ReadRequests, type ReadLimits } from "./read-requests.js";

/**
 * Estimated time of a whole batch of reads. The plain sum of `T[s]` (paper section 3.1) prices each read as
 * one of endlessly many; a batch also starts, ends, and leaves lanes idle, which matters most when it is small:
 *
 * `fixedNs + sumWeight * sum(T[s]) + perRequestNs * n + laneWeight * busiest lane + stragglerNs * ln(n)`
 *
 * over the `n` requests that the plan becomes (gaps read through, long requests split, see `ReadRequests`).
 * The busiest lane is the last one to finish when the requests are handed out in order to the lane that gets
 * free first, each taking its unloaded time `U[s]`. The logarithm is how the largest of `n` random delays grows when
 * long ones are exponentially rare: requests that meet in one place of the device wait for each other.
 *
 * A model belongs to one thread of execution: it reuses its workspace between calls.
 */
export class BatchModel {
  readonly parameters: BatchModelParameters;
  readonly #terms: BatchTerms;

  /**
   * @param table The device's `T[s]`, the one that the parameters were fitted with.
   * @param parameters From `fitBatchModel` or a profile's `batchModel`; checked and copied.
   * @throws LatencyModelError `INVALID_PROFILE`.
   */
  constructor(table: LatencyTable, parameters: BatchModelParameters) {
    this.parameters = readBatchParameters(parameters, "batchModel");
    this.#terms = new BatchTerms(table, this.parameters.unloaded, this.parameters);
  }

  /**
   * Estimated time to read a plan, ns; 0 for an empty one. No allocation unless a plan has more requests than
   * any before.
   *
   * @param plan Chunks to read.
   * @param rowBytes Bytes of one row, an integer of at least 1.
   * @throws LatencyModelError `INVALID_ARGUMENT`.
   */
  estimatePlanNs(plan: ChunkPlan, rowBytes: number): number {
    const {
      fixedNs,
      sumWeight,
      perRequestNs,
      laneWeight,
      lanes,
      stragglerNs = 0,
    } = this.parameters;
    const terms = this.#terms;
    terms.load(plan, rowBytes);
    if (terms.requests === 0) return 0;
    const laneNs = laneWeight === 0 ? 0 : laneWeight * terms.busiestLaneNs(lanes);
    return (
      fixedNs +
      sumWeight * terms.sumNs +
      perRequestNs * terms.requests +
      laneNs +
      stragglerNs * Math.log(terms.requests)
    );
  }
}

/** @internal What the weights of the batch model weigh, for one plan at a time. */
export class BatchTerms {
  /** Number of requests of the loaded plan. */
  requests = 0;
  /** Sum over its requests of `T[s]`, ns. */
  sumNs = 0;
  readonly #table: LatencyTable;
  readonly #sizesBytes: Float64Array;
  readonly #latencyNs: Float64Array;
  readonly #limits: ReadLimits;
  readonly #requests = new ReadRequests();
  readonly #schedule = new LaneSchedule(MAX_LANES);
  /** `U[s]` of each request, ns. */
  #unloadedNs = new Float64Array(0);

  constructor(table: LatencyTable, unloaded: LatencyCurve, limits: ReadLimits) {
    this.#table = table;
    this.#sizesBytes = Float64Array.from(unloaded.sizesBytes);
    this.#latencyNs = Float64Array.from(unloaded.latencyNs);
    this.#limits = limits;
  }

  load(plan: ChunkPlan, rowBytes: number): void {
    this.#requests.fill(plan, rowBytes, this.#limits);
    const { sizesBytes, count } = this.#requests;
    if (this.#unloadedNs.length < count) this.#unloadedNs = new Float64Array(sizesBytes.length);
    let sumNs = 0;
    for (let request = 0; request < count; request++) {
      sumNs += this.#table.latencyNs(sizesBytes[request]);
      this.#unloadedNs[request] = this.unloadedNs(sizesBytes[request]);
    }
    this.requests = count;
    this.sumNs = sumNs;
  }

  busiestLaneNs(lanes: number): number {
    return this.#schedule.busiestNs(this.#unloadedNs, this.requests, lanes);
  }

  /** `U[s]`; past the last sample a read is longer by its transfer alone. */
  unloadedNs(sizeBytes: number): number {
    const beyondBytes = sizeBytes - this.#sizesBytes[this.#sizesBytes.length - 1];
    const latencyNs = interpolate(this.#sizesBytes, this.#latencyNs, sizeBytes);
    return beyondBytes > 0 ? latencyNs + beyondBytes * this.#table.tailNsPerByte : latencyNs;
  }
}
