import { FlashReaderError } from "./errors.js";
import { requireLanding } from "./landing-buffer.js";
import type { LandingBuffer } from "./landing-buffer.js";
import { Views } from "./ranges.js";
import type { PlanLayout, RequestPlanner } from "./ranges.js";

/**
 * A plan cut into consecutive slices: slice `i` is pieces `ends[i-1] .. ends[i] - 1`, piece `p` is rows
 * `starts[p] .. starts[p] + lengths[p] - 1`. Arrays may be longer than that.
 */
export interface PlanSlices {
  readonly starts: Uint32Array;
  readonly lengths: Uint32Array;
  /** [>= count] Past the last piece of each slice; never descending. */
  readonly ends: Uint32Array;
  /** Number of slices. */
  readonly count: number;
}

/**
 * The requests of one plan in slices, for `reader.streamSlices`. A workspace to fill again and again by
 * `reader.prepareSlices`: nothing is allocated once it has seen the largest plan. It may be filled again as soon as
 * `streamSlices` returned, except that whoever consumes the stream may still need `offsetsBytes`.
 */
export class SliceRequests {
  /** @internal */
  readonly views = new Views();
  /** @internal Triples: file offset, length, offset in the ArrayBuffer of the landings. */
  requests = new Float64Array(0);
  /** @internal [sliceCount] Past the last request of each slice. */
  requestEnds = new Uint32Array(0);
  /** @internal */
  requestCount = 0;
  /** @internal */
  sliceCount = 0;
  /** @internal Slice s lands in landing `s % landings.length`; the array is never written to. */
  landings: readonly LandingBuffer[] = [];
  /** @internal The reader that it was filled for; undefined while there is nothing in it. */
  owner: object | undefined;

  /** @internal Bytes of the largest slice with what alignment and gaps add. */
  largestSliceBytes = 0;

  #bytesWanted = 0;

  /** [>= pieces] Where piece `p` lands: its byte offset in the one ArrayBuffer that all landings are parts of. */
  get offsetsBytes(): Float64Array {
    return this.views.offsetsBytes;
  }

  /** The sum of the wanted lengths. */
  get bytesWanted(): number {
    return this.#bytesWanted;
  }

  /** @internal Throws as `reader.prepareSlices`. */
  fill(
    planner: RequestPlanner,
    path: string,
    slices: PlanSlices,
    layout: PlanLayout,
    landings: readonly LandingBuffer[],
  ): void {
    this.owner = undefined;
    const { starts, lengths, ends, count } = slices;
    const pieceCount = checkSlices(slices);
    this.#keep(landings, path);
    planner.reset();
    planner.placeRows(starts, lengths, pieceCount, layout, this.views);
    if (this.requestEnds.length < count) this.requestEnds = new Uint32Array(2 * count);
    let from = 0;
    this.largestSliceBytes = 0;
    for (let s = 0; s < count; s++) {
      const { bytes } = landings[s % landings.length];
      const needed = planner.planSlice(from, ends[s], this.views, bytes.byteOffset, bytes.length);
      if (needed > bytes.length) throw tooSmall(path, s, needed, bytes.length);
      if (needed > this.largestSliceBytes) this.largestSliceBytes = needed;
      this.requestEnds[s] = planner.requestCount;
      from = ends[s];
    }
    this.#take(planner);
    this.sliceCount = count;
  }

  /** Mostly they are those of the last time. */
  #keep(landings: readonly LandingBuffer[], path: string): void {
    const known = this.landings;
    let same = landings.length === known.length;
    for (let i = 0; same && i < known.length; i++) same = landings[i] === known[i];
    if (!same || known.length === 0) {
      checkParts(landings, path);
      this.landings = landings.slice();
    } else {
      // Parts of one buffer, which is there or is not.
      requireLanding(known[0], "landings[0]", path);
    }
  }

  /** The planner is the reader's, and its next plan overwrites this one. */
  #take(planner: RequestPlanner): void {
    const numbers = 3 * planner.requestCount;
    if (this.requests.length < numbers) this.requests = new Float64Array(2 * numbers);
    for (let i = 0; i < numbers; i++) this.requests[i] = planner.requests[i];
    this.requestCount = planner.requestCount;
    this.#bytesWanted = planner.wantedBytes;
  }
}

/** Returns the number of pieces. */
function checkSlices({ starts, lengths, ends, count }: PlanSlices): number {
  if (!Number.isInteger(count) || count < 0 || count > ends.length) {
    throw invalid(
      `The number of slices must be an integer from 0 to ${ends.length}, that of their ends; got ${count}.`,
    );
  }
  let pieces = 0;
  for (let s = 0; s < count; s++) {
    if (ends[s] < pieces) {
      throw invalid(`The ends of slices must not descend; slice ${s} ends at ${ends[s]}.`);
    }
    pieces = ends[s];
  }
  if (pieces > starts.length || pieces > lengths.length) {
    throw invalid(
      `The slices have ${pieces} pieces, but there are ${starts.length} starts and ${lengths.length} lengths.`,
    );
  }
  return pieces;
}

function checkParts(landings: readonly LandingBuffer[], path: string): void {
  if (landings.length === 0) throw invalid("A stream needs at least one landing buffer.");
  for (let i = 0; i < landings.length; i++) {
    requireLanding(landings[i], `landings[${i}]`, path);
    if (
      landings[i].bytes.buffer !== landings[0].bytes.buffer ||
      landings.indexOf(landings[i]) < i
    ) {
      throw invalid(
        "The landing buffers of a stream must be different parts of one allocateParts().",
      );
    }
  }
}

function tooSmall(path: string, slice: number, needed: number, capacity: number): FlashReaderError {
  return new FlashReaderError(
    "LANDING_TOO_SMALL",
    `Slice ${slice} needs a landing buffer of ${needed} bytes, but its has ${capacity}; size them with landingBytesBound.`,
    { path, expected: needed, got: capacity },
  );
}

function invalid(message: string): FlashReaderError {
  return new FlashReaderError("INVALID_ARGUMENT", message);
}
