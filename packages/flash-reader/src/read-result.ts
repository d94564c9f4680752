import type { Views } from "./ranges.js";

/** What one read brought. Valid until the next read into the same landing buffer. */
export class ReadResult {
  /** The landing memory. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** [count] Where each wanted range starts in `bytes`, in the order they were asked for. */
  readonly viewOffsetsBytes: Float64Array;
  /** [count] How long each wanted range is. */
  readonly viewLengthsBytes: Float64Array;
  readonly count: number;
  /** The sum of the wanted lengths. */
  readonly bytesWanted: number;
  /** Transfers asked of the device. */
  readonly requests: number;
  /** What the device delivered: more than wanted by widening to blocks, less where ranges overlap. */
  bytesRead = 0;
  /** From the start of the read to its last byte, waiting behind earlier reads included. */
  elapsedNs = 0;

  /** @internal */
  constructor(
    bytes: Uint8Array<ArrayBuffer>,
    views: Views,
    count: number,
    bytesWanted: number,
    requests: number,
  ) {
    this.bytes = bytes;
    this.viewOffsetsBytes = views.offsetsBytes.subarray(0, count);
    this.viewLengthsBytes = views.lengthsBytes.subarray(0, count);
    this.count = count;
    this.bytesWanted = bytesWanted;
    this.requests = requests;
  }

  /** Exactly the bytes of wanted range `index`, in place (no copy). */
  view(index: number): Uint8Array<ArrayBuffer> {
    if (!Number.isInteger(index) || index < 0 || index >= this.count) {
      throw new RangeError(`This read has views 0 to ${this.count - 1}; got ${index}.`);
    }
    const start = this.viewOffsetsBytes[index];
    return this.bytes.subarray(start, start + this.viewLengthsBytes[index]);
  }
}
