import { binding } from "../src/binding.js";
import type { LandingBuffer, LandingSink, PlanLayout, PlanSlices } from "../src/index.js";
import type { FlashReader } from "../src/index.js";
import { SliceRequests } from "../src/index.js";
import { noise, testSeed } from "./support.js";

export const layout = { baseOffsetBytes: 1234, rowBytes: 1792 };
export const ROWS = 2231;
/** The last row ends with the file, within a block. */
export const FILE_BYTES = layout.baseOffsetBytes + ROWS * layout.rowBytes;

export const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
};

/** A plan of disjoint ascending pieces in slices of `pieces[s]` each; `next(below)` gives random integers. */
export function randomSlices(
  next: (below: number) => number,
  rows: number,
  pieces: readonly number[],
): PlanSlices {
  const total = pieces.reduce((sum, count) => sum + count, 0);
  const step = Math.floor(rows / Math.max(1, total));
  const starts = Uint32Array.from({ length: total }, (_, p) => p * step + next(step));
  const lengths = starts.map((start, p) => 1 + next(Math.max(1, (p + 1) * step - start)));
  let end = 0;
  const ends = Uint32Array.from(pieces, (count) => (end += count));
  return { starts, lengths, ends, count: pieces.length };
}

/** Landings for `slices`, all of the size that any slice may need. */
export function landingsFor(
  reader: FlashReader,
  slices: PlanSlices,
  layout: PlanLayout,
  slots: number,
): LandingBuffer[] {
  let most = 0;
  for (let s = 0; s < slices.count; s++) {
    const [from, to] = [s === 0 ? 0 : slices.ends[s - 1], slices.ends[s]];
    const rows = slices.lengths.subarray(from, to).reduce((sum, length) => sum + length, 0);
    most = Math.max(most, reader.landingBytesBound(to - from, rows * layout.rowBytes));
  }
  return reader.allocateParts(slots, most);
}

/** The first piece of slices [from, to) whose bytes are not those of `file`, or -1. */
export function firstWrongPiece(
  slices: PlanSlices,
  layout: PlanLayout,
  { requests, memory, file }: { requests: SliceRequests; memory: ArrayBuffer; file: Buffer },
  from: number,
  to: number,
): number {
  const { baseOffsetBytes, rowBytes } = layout;
  const first = from === 0 ? 0 : slices.ends[from - 1];
  const past = to === 0 ? 0 : slices.ends[to - 1];
  for (let p = first; p < past; p++) {
    const start = baseOffsetBytes + slices.starts[p] * rowBytes;
    const length = slices.lengths[p] * rowBytes;
    const landed = new Uint8Array(memory, requests.offsetsBytes[p], length);
    if (!file.subarray(start, start + length).equals(landed)) return p;
  }
  return -1;
}

/** Takes slices as they land: `check` sees each while its bytes are there, then it is released. */
export async function consume(
  sink: LandingSink,
  count: number,
  check: (slice: number) => void,
): Promise<void> {
  let seen = 0;
  const done = new Set<number>();
  for (let released = 0; released < count;) {
    await until(() => binding.collected(sink).landed.length > seen);
    const { landed } = binding.collected(sink);
    for (const slice of landed.slice(seen)) {
      check(slice);
      done.add(slice);
    }
    seen = landed.length;
    while (done.has(released)) released++;
    binding.releaseCollected(sink, released);
  }
}

export function randomNumbers(seed: number): (below: number) => number {
  const random = noise(1 << 16, seed);
  let at = 0;
  return (below) => random.readUInt32LE(4 * (at++ % (random.length / 4))) % below;
}

/** Eight slices of four pieces, prepared, with a landing for each of `slots`. */
export function prepared(
  reader: FlashReader,
  slots = 3,
): { slices: PlanSlices; landings: LandingBuffer[]; requests: SliceRequests } {
  const slices = randomSlices(randomNumbers(testSeed()), ROWS, Array<number>(8).fill(4));
  const landings = landingsFor(reader, slices, layout, slots);
  const requests = new SliceRequests();
  reader.prepareSlices(slices, layout, landings, requests);
  return { slices, landings, requests };
}
