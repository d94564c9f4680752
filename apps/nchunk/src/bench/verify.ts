import type { ReadResult } from "@neuron-chunking/flash-reader";
import { NchunkError } from "../errors";
import { randomFileBytes } from "../random-file";
import type { FileRange } from "./fio/iolog";

const CHECKED_RANGES = 16;
/** Both ends of a range are compared: a misplaced view is wrong there. */
const CHECKED_END_BYTES = 16 * 1024;

/** Compares a sample of what was read with what the file holds. Returns how many ranges; throws BENCH_FAILED. */
export function verifySample(result: ReadResult, ranges: readonly FileRange[]): number {
  const step = Math.max(1, Math.floor(ranges.length / CHECKED_RANGES));
  let checked = 0;
  for (let i = 0; i < ranges.length; i += step) {
    if (!isRight(ranges[i], result.view(i))) {
      const { offsetBytes, lengthBytes } = ranges[i];
      throw new NchunkError(
        "BENCH_FAILED",
        `The reader brought wrong bytes for ${lengthBytes} bytes at ${offsetBytes} (or the file was changed: delete it). ` +
          "If it happens again, this is a bug, please report it.",
      );
    }
    checked += 1;
  }
  return checked;
}

function isRight({ offsetBytes, lengthBytes }: FileRange, view: Uint8Array): boolean {
  const endBytes = Math.min(lengthBytes, CHECKED_END_BYTES);
  const tailAt = lengthBytes - endBytes;
  return (
    view.length === lengthBytes &&
    randomFileBytes(offsetBytes, endBytes).equals(view.subarray(0, endBytes)) &&
    randomFileBytes(offsetBytes + tailAt, endBytes).equals(view.subarray(tailAt))
  );
}
