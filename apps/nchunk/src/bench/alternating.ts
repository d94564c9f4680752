/**
 * In which order the contenders of one comparison run: forwards, backwards, backwards, forwards and so on
 * (ABBA), so that a steady drift of the machine favours neither.
 */
export function alternatingOrder<T>(contenders: readonly T[], round: number): T[] {
  const isForwards = round % 4 === 0 || round % 4 === 3;
  return isForwards ? [...contenders] : [...contenders].reverse();
}

/** A set of comparisons that is measured in rounds, each round all of them once. */
export interface Section {
  readonly name: string;
  /** Done even when time is short. */
  readonly minRounds: number;
  readonly maxRounds: number;
  runRound(round: number): Promise<void>;
}

/** The next round may take so much longer than the last. */
const SLACK = 1.1;

/**
 * Rounds of several sections in turn until none has a round left that fits the time. Rounds rather than
 * one case after the other, so that a disturbance hits all cases a little and none wholly.
 *
 * @param remainingMs Time that is left, by a clock.
 * @returns Rounds done of each section.
 */
export async function runRounds(
  sections: readonly Section[],
  remainingMs: () => number,
): Promise<number[]> {
  const states = sections.map((section) => ({ section, rounds: 0, lastMs: 0 }));
  const isDue = ({ section, rounds, lastMs }: (typeof states)[number]): boolean =>
    rounds < section.minRounds || (rounds < section.maxRounds && SLACK * lastMs < remainingMs());
  for (;;) {
    const due = states.filter(isDue).sort((a, b) => a.rounds - b.rounds);
    if (due.length === 0) return states.map(({ rounds }) => rounds);
    const [state] = due;
    const startedMs = performance.now();
    await state.section.runRound(state.rounds);
    state.lastMs = performance.now() - startedMs;
    state.rounds += 1;
  }
}
