import { VlmExecutorError } from "./errors.js";

/** How the next token is drawn. */
export interface SamplingOptions {
  /** 0 (the default): always the likeliest token. Above 0: drawn from softmax(logits / temperature). */
  readonly temperature?: number;
  /** Draws only from the likeliest tokens that together hold this probability; 1 (the default): from all. */
  readonly topP?: number;
  /** Same seed, same draws; default 0. A whole number. */
  readonly seed?: number;
}

/**
 * xoshiro128** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021), its state
 * filled from the seed by SplitMix32. The same draws on every machine.
 */
export class RandomSource {
  private readonly state = new Uint32Array(4);

  constructor(seed: number) {
    let mixed = seed >>> 0;
    // A seed beyond 32 bits counts with all its bits.
    mixed ^= Math.floor(Math.abs(seed) / 2 ** 32) >>> 0;
    for (let i = 0; i < 4; i++) {
      mixed = (mixed + 0x9e3779b9) >>> 0;
      let z = mixed;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      this.state[i] = z ^ (z >>> 16);
    }
  }

  /** Uniform in [0, 1), 32 bits of it random. */
  next(): number {
    const s = this.state;
    const result = Math.imul(rotateLeft(Math.imul(s[1], 5), 7), 9) >>> 0;
    const shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotateLeft(s[3], 11);
    return result / 2 ** 32;
  }
}

const rotateLeft = (x: number, bits: number): number => (x << bits) | (x >>> (32 - bits));

/** Draws token ids from logits. */
export class Sampler {
  private readonly temperature: number;
  private readonly topP: number;
  private readonly random: RandomSource;
  /** Unnormalised probabilities, made at the first draw. */
  private weights = new Float64Array(0);

  /** @throws VlmExecutorError `INVALID_OPTION` */
  constructor({ temperature = 0, topP = 1, seed = 0 }: SamplingOptions = {}) {
    requireOption(Number.isFinite(temperature) && temperature >= 0, "temperature", "0 or more");
    requireOption(topP > 0 && topP <= 1, "topP", "above 0 and at most 1");
    requireOption(Number.isSafeInteger(seed), "seed", "a whole number");
    this.temperature = temperature;
    this.topP = topP;
    this.random = new RandomSource(seed);
  }

  /**
   * @param logits [vocabulary], unchanged
   * @throws VlmExecutorError `NON_FINITE` when the logits hold NaN
   */
  sample(logits: Float32Array): number {
    const best = argmax(logits);
    if (this.temperature === 0) return best;
    const peak = logits[best];
    if (this.weights.length !== logits.length) this.weights = new Float64Array(logits.length);
    for (let id = 0; id < logits.length; id++) {
      this.weights[id] = Math.exp((logits[id] - peak) / this.temperature);
    }
    return this.topP < 1 ? this.drawNucleus(this.weights) : this.draw(this.weights);
  }

  private draw(weights: Float64Array): number {
    let left = this.random.next() * weights.reduce((sum, weight) => sum + weight, 0);
    let last = 0;
    for (let id = 0; id < weights.length; id++) {
      if (weights[id] === 0) continue;
      left -= weights[id];
      last = id;
      if (left < 0) return id;
    }
    return last;
  }

  /** The smallest set of likeliest tokens that reaches `topP`. */
  private drawNucleus(weights: Float64Array): number {
    const order = Array.from(weights.keys()).filter((id) => weights[id] > 0);
    order.sort((a, b) => weights[b] - weights[a] || a - b);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    let held = 0;
    let size = 0;
    while (size < order.length && held < this.topP * total) held += weights[order[size++]];
    const nucleus = order.slice(0, size);
    return nucleus[this.draw(Float64Array.from(nucleus, (id) => weights[id]))];
  }
}

/** The first index of the largest value. @throws VlmExecutorError `NON_FINITE` when there is no finite one */
function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) throw nonFinite(i, values[i]);
    if (values[i] > values[best]) best = i;
  }
  if (!Number.isFinite(values[best])) throw nonFinite(best, values[best]);
  return best;
}

function nonFinite(token: number, got: number): VlmExecutorError {
  return new VlmExecutorError(
    "NON_FINITE",
    `The model's output for token ${token} is ${got}: its weights or inputs hold NaN or overflow.`,
    { expected: "a finite number", got },
  );
}

function requireOption(valid: boolean, name: string, expected: string): void {
  if (valid) return;
  throw new VlmExecutorError("INVALID_OPTION", `${name} must be ${expected}.`, { expected });
}
