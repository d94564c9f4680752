/**
 * The layout of quantised rows straight from its definition, without anything of src: a table of every binary16 value
 * instead of bit arithmetic, search instead of formulas.
 */
export interface Format {
  dtype: "int8" | "int4";
  groupSize: number;
}

/** binary16[bits] for every finite value that is not negative, in rising order. */
export const BINARY16: number[] = [];
for (let exponent = 0; exponent < 31; exponent++) {
  for (let fraction = 0; fraction < 1024; fraction++) {
    const leading = exponent === 0 ? 0 : 1;
    BINARY16.push((leading + fraction / 1024) * 2 ** (Math.max(exponent, 1) - 15));
  }
}

/** Bits of the nearest binary16, ties to the even pattern; `value` in 0..65519. */
export function nearestBinary16(value: number): number {
  let low = 0;
  let high = BINARY16.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (BINARY16[middle] <= value) low = middle;
    else high = middle;
  }
  if (low === BINARY16.length - 1) return low;
  const below = value - BINARY16[low];
  const above = BINARY16[low + 1] - value;
  if (below === above) return low % 2 === 0 ? low : low + 1;
  return below < above ? low : low + 1;
}

function halfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest === 0.5) return floor % 2 === 0 ? floor : floor + 1;
  return rest < 0.5 ? floor : floor + 1;
}

export const most = ({ dtype }: Format): number => (dtype === "int8" ? 127 : 7);

/** Bytes of quants and of the row. */
export function sizes(format: Format, columns: number): { scalesAt: number; rowBytes: number } {
  const quantBytes = format.dtype === "int8" ? columns : (columns + (columns % 2)) / 2;
  const scalesAt = quantBytes + (quantBytes % 2);
  let groups = 0;
  for (let column = 0; column < columns; column += format.groupSize) groups++;
  return { scalesAt, rowBytes: scalesAt + 2 * groups };
}

/** One row, [quants][scales]. */
export function naiveRow(weights: readonly number[], format: Format): Buffer {
  const { scalesAt, rowBytes } = sizes(format, weights.length);
  const row = Buffer.alloc(rowBytes);
  const limit = most(format);
  for (let first = 0; first < weights.length; first += format.groupSize) {
    const group = weights.slice(first, first + format.groupSize);
    const largest = Math.max(...group.map(Math.abs));
    let bits = largest === 0 ? 0 : nearestBinary16(largest / limit);
    while (largest > 0 && !(halfEven(largest / BINARY16[bits]) <= limit)) bits++;
    row.writeUInt16LE(bits, scalesAt + 2 * (first / format.groupSize));
    for (const [index, weight] of group.entries()) {
      const quant = largest === 0 ? 0 : halfEven(weight / BINARY16[bits]);
      const column = first + index;
      if (format.dtype === "int8") row.writeInt8(quant, column);
      else row[Math.floor(column / 2)] += (quant < 0 ? quant + 16 : quant) * (column % 2 ? 16 : 1);
    }
  }
  return row;
}

/** Quants and scales of a row. */
export function naiveRead(
  row: Buffer,
  columns: number,
  format: Format,
): { quant: number; scale: number }[] {
  const { scalesAt } = sizes(format, columns);
  return Array.from({ length: columns }, (_, column) => {
    let quant: number;
    if (format.dtype === "int8") quant = row.readInt8(column);
    else {
      const byte = row[Math.floor(column / 2)];
      const nibble = column % 2 ? Math.floor(byte / 16) : byte % 16;
      quant = nibble > 7 ? nibble - 16 : nibble;
    }
    const bits = row.readUInt16LE(scalesAt + 2 * Math.floor(column / format.groupSize));
    return { quant, scale: BINARY16[bits] };
  });
}

/** |w - q scale| / |w| */
export function naiveError(weights: readonly number[], format: Format): number {
  const read = naiveRead(naiveRow(weights, format), weights.length, format);
  const norm = Math.hypot(...weights);
  if (norm === 0) return 0;
  return Math.hypot(...weights.map((w, i) => w - read[i].quant * read[i].scale)) / norm;
}

/** Little-endian elements as numbers. */
export function valuesOf(bytes: Buffer, dtype: string): number[] {
  const elementBytes = dtype === "F32" ? 4 : 2;
  return Array.from({ length: bytes.length / elementBytes }, (_, index) => {
    if (dtype === "F32") return bytes.readFloatLE(4 * index);
    const bits = bytes.readUInt16LE(2 * index);
    if (dtype === "F16") return (bits & 0x8000 ? -1 : 1) * BINARY16[bits & 0x7fff];
    const wide = Buffer.alloc(4);
    wide.writeUInt16LE(bits, 2);
    return wide.readFloatLE();
  });
}
