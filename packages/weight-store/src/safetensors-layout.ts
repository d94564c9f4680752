import { safetensorsDType, storageBytes, type StorageDType } from "./dtype.js";

/** Flash pages and direct I/O: a bundle that starts on this boundary is read without a stray page in front. */
export const PAGE_BYTES = 4096;
const LENGTH_BYTES = 8;

/** A tensor to be laid out in a file. */
export interface TensorSpec {
  name: string;
  dtype: StorageDType;
  shape: readonly number[];
  /** Power of two; the tensor starts on a multiple of it. */
  alignmentBytes: number;
}

export interface PlacedTensor extends TensorSpec {
  /** Bytes from the start of the file. */
  offsetBytes: number;
  lengthBytes: number;
}

/** A file whose every offset is known before a byte of it is written. */
export interface FileLayout {
  /** Length prefix and JSON, padded with spaces to a whole number of pages. */
  header: Uint8Array;
  tensors: PlacedTensor[];
  fileBytes: number;
}

/** Size of a tensor in bytes. */
function tensorBytes(dtype: StorageDType, shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, storageBytes(dtype));
}

/**
 * Places tensors one after the other. The format allows no holes, so the space that alignment costs is given to U8
 * tensors named `__pad__.<n>`, which readers of the file may ignore; the file ends on a page boundary too, so that a
 * direct read of the last row never meets the end of the file.
 * @param metadata Free strings for `__metadata__`.
 */
export function layOutFile(
  specs: readonly TensorSpec[],
  metadata: Readonly<Record<string, string>>,
): FileLayout {
  const entries: Record<string, unknown> = { __metadata__: metadata };
  const placed: { spec: TensorSpec; beginBytes: number; lengthBytes: number }[] = [];
  let end = 0;
  let pads = 0;
  const padTo = (alignmentBytes: number) => {
    const begin = Math.ceil(end / alignmentBytes) * alignmentBytes;
    if (begin > end) {
      entries[`__pad__.${pads++}`] = {
        dtype: "U8",
        shape: [begin - end],
        data_offsets: [end, begin],
      };
    }
    end = begin;
  };
  for (const spec of specs) {
    padTo(spec.alignmentBytes);
    const lengthBytes = tensorBytes(spec.dtype, spec.shape);
    entries[spec.name] = {
      dtype: safetensorsDType(spec.dtype),
      shape: spec.shape,
      data_offsets: [end, end + lengthBytes],
    };
    placed.push({ spec, beginBytes: end, lengthBytes });
    end += lengthBytes;
  }
  padTo(PAGE_BYTES);
  const header = encodeHeader(entries);
  return {
    header,
    tensors: placed.map(({ spec, beginBytes, lengthBytes }) => ({
      ...spec,
      offsetBytes: header.length + beginBytes,
      lengthBytes,
    })),
    fileBytes: header.length + end,
  };
}

function encodeHeader(entries: Record<string, unknown>): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(entries));
  const total = Math.ceil((LENGTH_BYTES + json.length) / PAGE_BYTES) * PAGE_BYTES;
  const header = new Uint8Array(total).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(total - LENGTH_BYTES), true);
  header.set(json, LENGTH_BYTES);
  return header;
}
