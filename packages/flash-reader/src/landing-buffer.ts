import { markAsUntransferable } from "node:worker_threads";
import { binding } from "./binding.js";
import { FlashReaderError } from "./errors.js";
import { Views } from "./ranges.js";

/** Direct I/O never needs more than a page, and pages never straddle two landings. */
const PAGE_BYTES = 4096;
/** Landings at least this large start at a huge page, where the kernel can use them. */
const HUGE_PAGE_BYTES = 2 << 20;
/** The limit of one ArrayBuffer is far above; this only turns nonsense into a clear error. */
const MAX_LANDING_BYTES = 2 ** 36;

/**
 * Memory that reads land in: page-aligned bytes inside an ordinary ArrayBuffer, reusable for any
 * number of reads, one at a time. What a read left in it is valid until the next read into it.
 * The reader references it natively while a read is under way; it is freed by garbage collection.
 */
export class LandingBuffer {
  /** Page-aligned, `capacityBytes` long. Must not be written to while a read into it is under way. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** @internal */
  readonly views = new Views();
  /** @internal True while a read into this buffer is under way. */
  busy = false;

  /** @param within memory of another landing that this one is to be a part of; page-aligned */
  constructor(capacityBytes: number, within?: Uint8Array<ArrayBuffer>) {
    if (
      !Number.isInteger(capacityBytes) ||
      capacityBytes < 0 ||
      capacityBytes > MAX_LANDING_BYTES
    ) {
      throw new FlashReaderError(
        "INVALID_ARGUMENT",
        `The capacity of a landing buffer must be an integer from 0 to ${MAX_LANDING_BYTES}; got ${capacityBytes}.`,
        { got: capacityBytes },
      );
    }
    if (within !== undefined) {
      this.bytes = within;
      return;
    }
    const alignment = capacityBytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : PAGE_BYTES;
    const buffer = new ArrayBuffer(capacityBytes + alignment);
    // Threads write to this memory: it must not move to another worker under them.
    markAsUntransferable(buffer);
    this.bytes = new Uint8Array(
      buffer,
      binding.alignLanding(buffer, capacityBytes, alignment),
      capacityBytes,
    );
  }

  /**
   * `count` landings of `capacityBytes` each that lie in one ArrayBuffer: each is read into on its own, and bytes of
   * several can be given away by one array and offsets.
   */
  static parts(count: number, capacityBytes: number): LandingBuffer[] {
    const strideBytes = Math.ceil(capacityBytes / PAGE_BYTES) * PAGE_BYTES;
    const { bytes } = new LandingBuffer(count * strideBytes);
    return Array.from({ length: count }, (_, i) => {
      const start = i * strideBytes;
      return new LandingBuffer(capacityBytes, bytes.subarray(start, start + capacityBytes));
    });
  }

  get capacityBytes(): number {
    return this.bytes.length;
  }

  /** True once the memory was taken away with `ArrayBuffer.prototype.transfer`. */
  get detached(): boolean {
    // Even an empty landing has slack, so a length of zero means that the memory is gone.
    return this.bytes.buffer.byteLength === 0;
  }
}

/** Throws INVALID_ARGUMENT or LANDING_DETACHED when `landing`, called `name`, cannot be read into at all. */
export function requireLanding(landing: LandingBuffer, name: string, path: string): void {
  if (!(landing instanceof LandingBuffer)) {
    throw new FlashReaderError(
      "INVALID_ARGUMENT",
      `\`${name}\` must be a LandingBuffer made by reader.allocate() or allocateParts().`,
    );
  }
  if (landing.detached) {
    throw new FlashReaderError(
      "LANDING_DETACHED",
      "The memory of this landing buffer was transferred away; allocate a new one.",
      { path },
    );
  }
}

/** Throws LANDING_BUSY when something else is read into `landing`. */
export function requireFree(landing: LandingBuffer, path: string): void {
  if (!landing.busy) return;
  throw new FlashReaderError(
    "LANDING_BUSY",
    "A read into this landing buffer is under way; wait for it or use another buffer.",
    { path },
  );
}
