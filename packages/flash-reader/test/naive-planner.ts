/** What requests a planner should make, worked out the slow and obvious way. */
export interface NaivePlan {
  /** `[offset, length]` of each request, ascending. */
  readonly requests: readonly (readonly [number, number])[];
  /** Where in the landing memory each wanted range starts, `[count]`. */
  readonly landings: readonly number[];
}

export interface NaiveLimits {
  readonly alignmentBytes: number;
  readonly maxRequestBytes: number;
  readonly readThroughBytes: number;
}

type Range = readonly [offset: number, length: number];
interface Span {
  start: number;
  end: number;
}

/**
 * Whole blocks under every range; spans that touch or overlap are one; a gap that is short enough is
 * filled when the span is then at most twice what is wanted of it. Quadratic: every question is
 * answered by looking at all ranges again.
 */
export function planNaively(ranges: readonly Range[], limits: NaiveLimits): NaivePlan {
  const { alignmentBytes, readThroughBytes } = limits;
  const down = (at: number) => Math.floor(at / alignmentBytes) * alignmentBytes;
  const up = (at: number) => Math.ceil(at / alignmentBytes) * alignmentBytes;

  const ascending = [...ranges].sort((a, b) => a[0] - b[0]);
  const spans: Span[] = [];
  ascending.forEach(([offset, length], k) => {
    const next = { start: down(offset), end: up(offset + length) };
    const last = spans.at(-1);
    if (last === undefined) {
      spans.push(next);
      return;
    }
    const joined = { start: last.start, end: Math.max(last.end, next.end) };
    const wanted = bytesWantedFrom(ascending.slice(0, k + 1), last.start);
    const touches = next.start <= last.end;
    const pays =
      next.start - last.end <= readThroughBytes && joined.end - joined.start <= 2 * wanted;
    if (touches || pays) spans[spans.length - 1] = joined;
    else spans.push(next);
  });

  const landings = ranges.map(([offset]) => {
    let before = 0;
    for (const { start, end } of spans) {
      if (offset >= start && offset < end) return before + offset - start;
      before += end - start;
    }
    throw new Error("a range outside every span");
  });
  return { requests: spans.flatMap((span) => inParts(span, limits)), landings };
}

/** Different bytes at or after `start` that `ranges` want, counted range by range. */
function bytesWantedFrom(ranges: readonly Range[], start: number): number {
  const edges = [...new Set(ranges.flatMap(([offset, length]) => [offset, offset + length]))];
  edges.sort((a, b) => a - b);
  let bytes = 0;
  for (let i = 1; i < edges.length; i++) {
    const from = edges[i - 1];
    const isWanted = ranges.some(([offset, length]) => offset <= from && from < offset + length);
    if (from >= start && isWanted) bytes += edges[i] - from;
  }
  return bytes;
}

/** As few parts as the limit allows, equal but for whole blocks. */
function inParts({ start, end }: Span, limits: NaiveLimits): (readonly [number, number])[] {
  const { alignmentBytes, maxRequestBytes } = limits;
  const blocks = (end - start) / alignmentBytes;
  const mostBlocks = Math.max(1, Math.floor(maxRequestBytes / alignmentBytes));
  const perPart = Math.ceil(blocks / Math.ceil(blocks / mostBlocks));
  const parts: (readonly [number, number])[] = [];
  for (let done = 0; done < blocks; done += perPart) {
    const count = Math.min(perPart, blocks - done);
    parts.push([start + done * alignmentBytes, count * alignmentBytes]);
  }
  return parts;
}
