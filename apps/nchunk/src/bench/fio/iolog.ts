export interface FileRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** The smallest range of whole blocks around `range`, inside the file: direct I/O refuses any other. */
export function widen(range: FileRange, alignmentBytes: number, fileBytes: number): FileRange {
  const start = Math.floor(range.offsetBytes / alignmentBytes) * alignmentBytes;
  const end = range.offsetBytes + range.lengthBytes;
  const widened = Math.min(Math.ceil(end / alignmentBytes) * alignmentBytes, fileBytes);
  return { offsetBytes: start, lengthBytes: widened - start };
}

/**
 * An iolog (version 2: without times) that makes fio read `ranges` of one file in this order.
 *
 * @param fileName Must not contain white space, which separates the fields of an iolog.
 */
export function iolog(fileName: string, ranges: readonly FileRange[]): string {
  const reads = ranges.map(
    ({ offsetBytes, lengthBytes }) => `${fileName} read ${offsetBytes} ${lengthBytes}`,
  );
  return [
    "fio version 2 iolog",
    `${fileName} add`,
    `${fileName} open`,
    ...reads,
    `${fileName} close`,
    "",
  ].join("\n");
}
