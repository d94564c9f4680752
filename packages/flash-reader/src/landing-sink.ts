/**
 * The native consumer of a stream: an External of another addon whose memory is a `FlashIoSink` of
 * `flash_io/landing_sink.h`. It is kept referenced until the stream settled.
 */
export type LandingSink = object;

export interface StreamOptions {
  /** Stops what is not under way; the promise rejects with the signal's reason once the rest is done. */
  readonly signal?: AbortSignal;
  /**
   * About so many bytes at most (two slices at least) are under way at a time. What is under way together lands together, on
   * some devices all at once: with less, each slice is there sooner, at some loss of throughput. For consumers that take longer
   * than the device. Default: as much as the device is driven with.
   */
  readonly bytesUnderWay?: number;
}

/** What a stream read. */
export interface StreamResult {
  /** The sum of the wanted lengths. */
  readonly bytesWanted: number;
  /** What the device delivered: more than wanted by widening to blocks and by gaps read through. */
  readonly bytesRead: number;
  /** Transfers asked of the device. */
  readonly requests: number;
  /** Time in which at least one slice was being read; waiting for the sink to release is not in it. */
  readonly readNs: number;
}
