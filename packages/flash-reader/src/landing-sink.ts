/**
 * The native consumer of a stream: an External of another addon whose memory is a `FlashIoSink` of
 * `flash_io/landing_sink.h`. It is kept referenced until the stream settled.
 */
export type LandingSink = object;

export interface StreamOptions {
  /** Stops what is not under way; the promise rejects with the signal's reason once the rest is done. */
  readonly signal?: AbortSignal;
  /**
   * About as many bytes are under way until the first slice has landed, then more with each that has: what is
   * under way together lands together, so the first is there sooner. Default: as much as the device is driven with.
   */
  readonly startBytes?: number;
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
