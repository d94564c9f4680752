/** Most entries of a segment that insertion sort handles; longer ones are radix sorted. */
const INSERTION_SORT_LIMIT = 32;
/** Buckets span at most this many octaves of score below the best; all that lies lower shares the last. */
const BUCKETED_OCTAVES = 16;
const BITS_PER_OCTAVE = 23;
/** Buckets of about 2^5 windows: few enough buckets to stay in the L1 cache, found best by bench/select.mjs. */
const BUCKET_LENGTH_BITS = 5;
const MIN_BUCKET_BITS = 6;
const MAX_BUCKET_BITS = 12;
const RADIX_BITS = 8;
const DIGIT_MASK = (1 << RADIX_BITS) - 1;

/**
 * Scored windows, to be taken by descending score, first added first on a tie.
 *
 * One counting pass spreads them over buckets by the bits of the score (for non-negative single-precision
 * numbers the order of the bits is the order of the numbers). A bucket is sorted only when its turn comes and
 * only as far as its windows still matter: the greedy stops early, and most late windows overlap taken ones.
 */
export class Candidates {
  /** Number of windows added. */
  count = 0;
  /** First row and number of rows, by ordinal in order of addition. */
  starts = new Uint32Array(0);
  sizes = new Uint32Array(0);
  /** Ordinals by bucket, and the bits of their scores; in order inside a bucket once it is sorted. */
  order = new Uint32Array(0);
  orderBits = new Int32Array(0);
  /** Bucket `b` holds `order[bucketEnds[b - 1] .. bucketEnds[b] - 1]`, from 0 for the first. */
  readonly bucketEnds = new Uint32Array((1 << MAX_BUCKET_BITS) + 1);
  bucketCount = 0;
  /** Scores by ordinal, and the same memory as bits. */
  scores = new Float32Array(0);
  #scoreBits = new Int32Array(0);
  /** Scratch for the radix sort. */
  #scratchOrder = new Uint32Array(0);
  #scratchBits = new Int32Array(0);
  readonly #digitEnds = new Uint32Array(1 << RADIX_BITS);

  /** Makes room for `capacity` windows and forgets those added before. */
  reset(capacity: number): void {
    this.count = 0;
    this.bucketCount = 0;
    if (capacity <= this.starts.length) return;
    // Half as much again, so that slowly growing shapes do not reallocate each time.
    const room = capacity + (capacity >>> 1);
    this.starts = new Uint32Array(room);
    this.sizes = new Uint32Array(room);
    this.order = new Uint32Array(room);
    this.scores = new Float32Array(room);
    this.#scoreBits = new Int32Array(this.scores.buffer);
    this.orderBits = new Int32Array(room);
    this.#scratchOrder = new Uint32Array(room);
    this.#scratchBits = new Int32Array(room);
  }

  /** Spreads the windows over buckets of descending score, in order of addition inside each. */
  spread(): void {
    const { count, bucketEnds } = this;
    const bits = this.#scoreBits;
    let highest = 0;
    let lowest = 0x7fff_ffff;
    for (let ordinal = 0; ordinal < count; ordinal++) {
      const key = bits[ordinal];
      if (key > highest) highest = key;
      if (key < lowest) lowest = key;
    }
    const range = Math.min(highest - lowest, BUCKETED_OCTAVES << BITS_PER_OCTAVE);
    const bucketBits = Math.min(
      MAX_BUCKET_BITS,
      Math.max(MIN_BUCKET_BITS, 31 - Math.clz32(count) - BUCKET_LENGTH_BITS),
    );
    const shift = Math.max(0, 32 - Math.clz32(range) - bucketBits);
    const last = range >>> shift;
    this.bucketCount = last + 1;
    bucketEnds.fill(0, 0, last + 2);
    for (let ordinal = 0; ordinal < count; ordinal++) {
      const bucket = (highest - bits[ordinal]) >>> shift;
      bucketEnds[bucket < last ? bucket + 1 : last + 1]++;
    }
    for (let bucket = 1; bucket <= last; bucket++) bucketEnds[bucket] += bucketEnds[bucket - 1];
    // Entry b now counts what lies before bucket b; filling the bucket moves it to the bucket's end.
    const { order } = this;
    const orderBits = this.orderBits;
    for (let ordinal = 0; ordinal < count; ordinal++) {
      const key = bits[ordinal];
      const bucket = (highest - key) >>> shift;
      const slot = bucketEnds[bucket < last ? bucket : last]++;
      order[slot] = ordinal;
      orderBits[slot] = key;
    }
  }

  /** Sorts entries `from .. to - 1` of one bucket, stably. */
  sort(from: number, to: number): void {
    if (to - from <= INSERTION_SORT_LIMIT) this.#insertionSort(from, to);
    else if (!this.#isSorted(from, to)) this.#radixSort(from, to);
  }

  #isSorted(from: number, to: number): boolean {
    const orderBits = this.orderBits;
    for (let slot = from + 1; slot < to; slot++) {
      if (orderBits[slot] > orderBits[slot - 1]) return false;
    }
    return true;
  }

  #insertionSort(from: number, to: number): void {
    const { order } = this;
    const orderBits = this.orderBits;
    for (let next = from + 1; next < to; next++) {
      const key = orderBits[next];
      const ordinal = order[next];
      let slot = next - 1;
      while (slot >= from && orderBits[slot] < key) {
        orderBits[slot + 1] = orderBits[slot];
        order[slot + 1] = order[slot];
        slot--;
      }
      orderBits[slot + 1] = key;
      order[slot + 1] = ordinal;
    }
  }

  /**
   * Least significant digit first, over the bits in which the segment's scores differ: few inside a bucket.
   * Digits count down, so that descending scores come out stably.
   */
  #radixSort(from: number, to: number): void {
    let order = this.order;
    let orderBits = this.orderBits;
    let nextOrder = this.#scratchOrder;
    let nextBits = this.#scratchBits;
    const ends = this.#digitEnds;
    let differing = 0;
    for (let slot = from + 1; slot < to; slot++) differing |= orderBits[slot] ^ orderBits[from];
    const differingBits = 32 - Math.clz32(differing);
    for (let shift = 0; shift < differingBits; shift += RADIX_BITS) {
      ends.fill(0);
      for (let slot = from; slot < to; slot++) ends[(orderBits[slot] >>> shift) & DIGIT_MASK]++;
      let end = from;
      for (let digit = DIGIT_MASK; digit >= 0; digit--) {
        end += ends[digit];
        ends[digit] = end;
      }
      for (let slot = to - 1; slot >= from; slot--) {
        const key = orderBits[slot];
        const target = --ends[(key >>> shift) & DIGIT_MASK];
        nextOrder[target] = order[slot];
        nextBits[target] = key;
      }
      [order, nextOrder] = [nextOrder, order];
      [orderBits, nextBits] = [nextBits, orderBits];
    }
    if (order === this.order) return;
    // An odd number of passes ended in the scratch arrays.
    for (let slot = from; slot < to; slot++) {
      nextOrder[slot] = order[slot];
      nextBits[slot] = orderBits[slot];
    }
  }
}
