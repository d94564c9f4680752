/** Repeatable randomness: two profiles of one device differ by the device, not by our choices. */
export class Random {
  #state: number;

  constructor(seed: number) {
    // xorshift has no way out of 0.
    this.#state = seed >>> 0 || 1;
  }

  /** An integer of 0 to `bound` - 1 (xorshift32). */
  below(bound: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state % bound;
  }

  /** Of 0 to 1, 1 excluded. */
  share(): number {
    return this.below(2 ** 32) / 2 ** 32;
  }

  /** 0 to `count` - 1 in a random order. */
  order(count: number): number[] {
    const order = Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
}
