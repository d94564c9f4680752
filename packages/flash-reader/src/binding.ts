import addon from "@neuron-chunking/flash-io-addon";

/** Types of the raw addon. Nothing but the reader and the landing buffer may touch it. */
export interface NativeBinding {
  /** Rejects with a {@link NativeFailure}. `directIo`: 0 required, 1 optional, 2 disabled. */
  openReader(
    path: string,
    directIo: number,
    threads: number,
    onSettled: OnSettled,
    faults?: FaultPlan,
  ): Promise<NativeReader>;
  /** The offset of the first aligned byte of `buffer`; asks for huge pages behind it. */
  alignLanding(buffer: ArrayBuffer, capacityBytes: number, alignmentBytes: number): number;
  /** The errno of fallocate(2), 0 when the space is reserved. */
  preallocate(fd: number, sizeBytes: number): Promise<number>;
}

/** Called once per batch, on the thread that opened the reader. `elapsedNs` runs from submit to the last byte. */
export type OnSettled = (
  id: number,
  elapsedNs: number,
  bytesRead: number,
  cancelled: boolean,
  failure: NativeFailure | null,
) => void;

export interface NativeFailure {
  code: string;
  /** 0 when no system call failed. */
  errno: number;
  offsetBytes: number;
  lengthBytes: number;
  detail: string;
}

export interface NativeReader {
  /**
   * Starts `count` aligned requests, each three numbers of `requests`: file offset, length, offset
   * behind `landingOffsetBytes` of `landing`. All are copied; `landing` is kept referenced until the
   * batch settled.
   */
  submit(
    requests: Float64Array,
    count: number,
    landing: ArrayBuffer,
    landingOffsetBytes: number,
  ): number;
  /** Stops what is not yet submitted of a batch; it settles when the rest is done. */
  cancel(id: number): void;
  close(): Promise<void>;
  stats(): NativeStats;
  describe(): NativeDescription;
}

export interface NativeStats {
  batches: number;
  requests: number;
  bytesRead: number;
  retries: number;
  errors: number;
  bytesInFlight: number;
}

export interface NativeDescription {
  backend: string;
  sizeBytes: number;
  alignmentBytes: number;
  directIo: boolean;
  reason: string;
  errno: number;
}

/** For tests: faults at the system-call boundary, each in 1/65536 of all reads. */
export interface FaultPlan {
  seed: number;
  shortRead?: number;
  zero?: number;
  interrupted?: number;
  again?: number;
  noMemory?: number;
  ioError?: number;
  noDevice?: number;
  delay?: number;
}

export const binding = addon as NativeBinding;
