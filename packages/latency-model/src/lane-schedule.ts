/**
 * Hands jobs, in order, to the lane that gets free first, and tells when the busiest lane is done: what a
 * device with a fixed number of places to serve requests does.
 */
export class LaneSchedule {
  /** When each lane gets free, ns: a binary heap with the earliest at its root. */
  readonly #freeNs: Float64Array;

  /** @param maxLanes The most lanes that will be asked for. */
  constructor(maxLanes: number) {
    this.#freeNs = new Float64Array(maxLanes);
  }

  /**
   * The makespan. No allocation.
   *
   * @param jobsNs Time of each job, ns, `[>= count]`, each at least 0.
   * @param count Number of jobs.
   * @param lanes Number of lanes, 1 to the `maxLanes` of the constructor.
   */
  busiestNs(jobsNs: Float64Array, count: number, lanes: number): number {
    const freeNs = this.#freeNs;
    // Lanes past the number of jobs stay idle.
    const used = Math.min(lanes, count);
    freeNs.fill(0, 0, used);
    let busiestNs = 0;
    for (let job = 0; job < count; job++) {
      const doneNs = freeNs[0] + jobsNs[job];
      if (doneNs > busiestNs) busiestNs = doneNs;
      let at = 0;
      for (let child = 1; child < used; child = 2 * at + 1) {
        if (child + 1 < used && freeNs[child + 1] < freeNs[child]) child++;
        if (freeNs[child] >= doneNs) break;
        freeNs[at] = freeNs[child];
        at = child;
      }
      freeNs[at] = doneNs;
    }
    return busiestNs;
  }
}
