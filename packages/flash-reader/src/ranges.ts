import type { ChunkPlan } from "@neuron-chunking/latency-model";
import { FlashReaderError } from "./errors.js";

/**
 * Byte ranges of a file, in any order and of any alignment; they may overlap. Arrays may be longer
 * than `count`. The reader copies what it needs before `read` returns.
 */
export interface ByteRanges {
  readonly offsetsBytes: Float64Array;
  readonly lengthsBytes: Float64Array | Uint32Array;
  readonly count: number;
}

/** Where the rows of a plan lie: row `i` is `rowBytes` long and starts at `baseOffsetBytes + i * rowBytes`. */
export interface PlanLayout {
  readonly baseOffsetBytes: number;
  readonly rowBytes: number;
}

/** Where each wanted range starts in the landing memory and how long it is; reused between reads. */
export class Views {
  offsetsBytes = new Float64Array(0);
  lengthsBytes = new Float64Array(0);

  reserve(count: number): void {
    if (this.offsetsBytes.length >= count) return;
    const capacity = Math.max(count, 2 * this.offsetsBytes.length, 64);
    this.offsetsBytes = new Float64Array(capacity);
    this.lengthsBytes = new Float64Array(capacity);
  }
}

/** What a file allows: its size, and the alignment of every transfer (a power of two). */
export interface FileLimits {
  readonly path: string;
  readonly sizeBytes: number;
  readonly alignmentBytes: number;
}

/** How requests are cut: see `ReaderTuning`. */
export interface RequestLimits {
  readonly maxRequestBytes: number;
  /** Gaps of up to this many bytes are read through; 0 for never. */
  readonly readThroughBytes: number;
}

/** A span with gaps in it is at most this many times as long as what is wanted of it (R3). */
const MAX_SPAN_PER_WANTED = 2;

/**
 * Turns wanted ranges into aligned requests (R7): each range is widened to whole blocks, and ranges
 * whose blocks touch or overlap are fetched together, so that no byte is read twice. So are ranges with
 * a gap between them that is cheaper to read than to skip (R3). A workspace: nothing is allocated per
 * range, and its fields hold until the next call.
 */
export class RequestPlanner {
  /** Triples: file offset, length, offset in the landing memory; all aligned. */
  requests = new Float64Array(3 * 256);
  requestCount = 0;
  /** Landing memory that the requests need. */
  landingBytes = 0;
  wantedBytes = 0;

  readonly #limits: FileLimits;
  readonly #partBytes: number;
  readonly #readThroughBytes: number;
  #offsets = new Float64Array(256);
  #order = new Uint32Array(0);

  constructor(limits: FileLimits, requests: RequestLimits) {
    this.#limits = limits;
    const { alignmentBytes } = limits;
    // Parts are whole blocks, and at least one.
    this.#partBytes = Math.max(
      alignmentBytes,
      requests.maxRequestBytes - (requests.maxRequestBytes % alignmentBytes),
    );
    this.#readThroughBytes = requests.readThroughBytes;
  }

  /** Plans `ranges`; writes into `views` where each lands. Throws INVALID_ARGUMENT or OUT_OF_RANGE. */
  planRanges(ranges: ByteRanges, views: Views, readThrough: boolean): void {
    const { offsetsBytes, lengthsBytes, count } = ranges;
    if (!Number.isInteger(count) || count < 0) throw invalidCount(count);
    if (count > offsetsBytes.length || count > lengthsBytes.length) {
      throw new FlashReaderError(
        "INVALID_ARGUMENT",
        `count is ${count}, but there are ${offsetsBytes.length} offsets and ${lengthsBytes.length} lengths.`,
        { expected: count, got: Math.min(offsetsBytes.length, lengthsBytes.length) },
      );
    }
    views.reserve(count);
    views.lengthsBytes.set(
      lengthsBytes.length === count ? lengthsBytes : lengthsBytes.subarray(0, count),
    );
    this.reset();
    this.#plan(offsetsBytes, 0, count, views, readThrough);
  }

  /** Plans the chunks of `plan`, one view per chunk. Throws INVALID_ARGUMENT or OUT_OF_RANGE. */
  planChunks(plan: ChunkPlan, layout: PlanLayout, views: Views, readThrough: boolean): void {
    const { starts, lengths, chunkCount } = plan;
    if (!Number.isInteger(chunkCount) || chunkCount < 0) throw invalidCount(chunkCount);
    if (chunkCount > starts.length || chunkCount > lengths.length) throw invalidCount(chunkCount);
    this.placeRows(starts, lengths, chunkCount, layout, views);
    this.reset();
    this.#plan(this.#offsets, 0, chunkCount, views, readThrough);
  }

  /** Forgets all requests; `planSlice` adds to those there are. */
  reset(): void {
    this.requestCount = 0;
    this.landingBytes = 0;
    this.wantedBytes = 0;
  }

  /** Where in the file the pieces of a plan lie, for `planSlice`. Throws INVALID_ARGUMENT. */
  placeRows(
    starts: Uint32Array,
    lengths: Uint32Array,
    count: number,
    layout: PlanLayout,
    views: Views,
  ): void {
    const { baseOffsetBytes, rowBytes } = layout;
    if (!Number.isSafeInteger(baseOffsetBytes) || baseOffsetBytes < 0 || !(rowBytes > 0)) {
      throw new FlashReaderError(
        "INVALID_ARGUMENT",
        `baseOffsetBytes must be an integer >= 0 and rowBytes a positive one; got ${baseOffsetBytes} and ${rowBytes}.`,
      );
    }
    views.reserve(count);
    if (this.#offsets.length < count) this.#offsets = new Float64Array(2 * count);
    const offsets = this.#offsets;
    const wanted = views.lengthsBytes;
    for (let i = 0; i < count; i++) {
      offsets[i] = baseOffsetBytes + starts[i] * rowBytes;
      wanted[i] = lengths[i] * rowBytes;
    }
  }

  /**
   * Plans pieces [from, to) of those placed last into `capacityBytes` from `landingOffsetBytes` on, without reading
   * gaps through where there is no room for them, and returns the bytes they need there: more than the capacity
   * when they do not fit. Throws OUT_OF_RANGE or INVALID_ARGUMENT.
   */
  planSlice(
    from: number,
    to: number,
    views: Views,
    landingOffsetBytes: number,
    capacityBytes: number,
  ): number {
    const { requestCount, wantedBytes } = this;
    this.landingBytes = landingOffsetBytes;
    this.#plan(this.#offsets, from, to, views, true);
    if (this.landingBytes - landingOffsetBytes > capacityBytes && this.#readThroughBytes > 0) {
      this.requestCount = requestCount;
      this.wantedBytes = wantedBytes;
      this.landingBytes = landingOffsetBytes;
      this.#plan(this.#offsets, from, to, views, false);
    }
    return this.landingBytes - landingOffsetBytes;
  }

  /** Adds ranges [first, past) of `offsets` and `views.lengthsBytes` to what is planned. */
  #plan(
    offsets: Float64Array,
    first: number,
    past: number,
    views: Views,
    readThrough: boolean,
  ): void {
    const sorted = this.#validate(offsets, views.lengthsBytes, first, past);
    const order = sorted ? undefined : this.#sort(offsets, first, past);
    const alignment = this.#limits.alignmentBytes;
    const most = readThrough ? this.#readThroughBytes : 0;
    // Exact, because the alignment is a power of two.
    const perAlignment = 1 / alignment;
    const { offsetsBytes, lengthsBytes } = views;
    // The span being grown: blocks [start, end), of which `wanted` bytes up to `reached` are asked for.
    let start = 0;
    let end = -1;
    let reached = 0;
    let wanted = 0;
    for (let k = first; k < past; k++) {
      const i = order === undefined ? k : order[k - first];
      const offset = offsets[i];
      const rangeEnd = offset + lengthsBytes[i];
      const from = Math.floor(offset * perAlignment) * alignment;
      const to = Math.ceil(rangeEnd * perAlignment) * alignment;
      const grown = wanted + Math.max(0, rangeEnd - Math.max(offset, reached));
      const joins =
        from <= end ||
        (from - end <= most && to - start <= MAX_SPAN_PER_WANTED * grown && end >= 0);
      if (joins) {
        if (to > end) end = to;
        wanted = grown;
      } else {
        if (end >= 0) this.#emit(start, end);
        start = from;
        end = to;
        wanted = lengthsBytes[i];
      }
      if (rangeEnd > reached) reached = rangeEnd;
      offsetsBytes[i] = this.landingBytes + (offset - start);
    }
    if (end >= 0) this.#emit(start, end);
  }

  /** Checks every range and adds up the wanted bytes; true when offsets ascend. */
  #validate(offsets: Float64Array, lengths: Float64Array, first: number, past: number): boolean {
    const { sizeBytes } = this.#limits;
    let sorted = true;
    let previous = -1;
    let wanted = 0;
    for (let i = first; i < past; i++) {
      const offset = offsets[i];
      const length = lengths[i];
      if (
        !(offset >= 0 && length > 0 && offset + length <= sizeBytes) ||
        Math.floor(offset) !== offset ||
        Math.floor(length) !== length
      ) {
        throw this.#badRange(i, offset, length);
      }
      if (offset < previous) sorted = false;
      previous = offset;
      wanted += length;
    }
    this.wantedBytes += wanted;
    return sorted;
  }

  #badRange(index: number, offset: number, length: number): FlashReaderError {
    const { path, sizeBytes } = this.#limits;
    const fields = { path, offsetBytes: offset, lengthBytes: length };
    if (Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length > 0) {
      return new FlashReaderError(
        "OUT_OF_RANGE",
        `Range ${index} (offset ${offset}, length ${length}) passes the end of ${path}, which has ${sizeBytes} bytes.`,
        { ...fields, expected: sizeBytes, got: offset + length },
      );
    }
    return new FlashReaderError(
      "INVALID_ARGUMENT",
      `Range ${index} of ${path} has offset ${offset} and length ${length}; give integers, offset >= 0 and length > 0.`,
      fields,
    );
  }

  #sort(offsets: Float64Array, first: number, past: number): Uint32Array {
    const count = past - first;
    if (this.#order.length < count) this.#order = new Uint32Array(2 * count);
    const order = this.#order.subarray(0, count);
    for (let i = 0; i < count; i++) order[i] = first + i;
    return order.sort((a, b) => offsets[a] - offsets[b]);
  }

  /** Appends the requests for the aligned bytes [start, end), in equal parts when there are many. */
  #emit(start: number, end: number): void {
    const alignment = this.#limits.alignmentBytes;
    const parts = Math.ceil((end - start) / this.#partBytes);
    const partBytes = Math.ceil((end - start) / parts / alignment) * alignment;
    for (let offset = start; offset < end; offset += partBytes) {
      const length = Math.min(partBytes, end - offset);
      const at = 3 * this.requestCount;
      if (at === this.requests.length) this.#grow();
      this.requests[at] = offset;
      this.requests[at + 1] = length;
      this.requests[at + 2] = this.landingBytes;
      this.requestCount++;
      this.landingBytes += length;
    }
  }

  #grow(): void {
    const larger = new Float64Array(2 * this.requests.length);
    larger.set(this.requests);
    this.requests = larger;
  }
}

function invalidCount(count: number): FlashReaderError {
  return new FlashReaderError(
    "INVALID_ARGUMENT",
    `The number of ranges must be an integer between 0 and the length of the arrays; got ${count}.`,
    { got: count },
  );
}
