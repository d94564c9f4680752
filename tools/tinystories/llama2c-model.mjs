/**
 * Reads the first file format of llama2.c: seven int32 (dim, hiddenDim, layers, heads, kvHeads, vocabSize, seqLen;
 * a negative vocabSize means the head is not the embedding table), then float32 tensors without names in a fixed order.
 */

const HEADER_BYTES = 28;

/** @param {Buffer} bytes The model file, or more: what follows it is ignored. */
export function readLlama2cModel(bytes) {
  const field = (index) => bytes.readInt32LE(4 * index);
  const config = {
    dim: field(0),
    hiddenDim: field(1),
    layers: field(2),
    heads: field(3),
    kvHeads: field(4),
    vocabSize: Math.abs(field(5)),
    seqLen: field(6),
    tied: field(5) > 0,
  };
  const headDim = config.dim / config.heads;
  const cursor = new Cursor(bytes, HEADER_BYTES);
  const perLayer = (...shape) => cursor.takeEach(config.layers, shape);
  const { dim, hiddenDim, vocabSize, kvHeads, seqLen } = config;
  // The order of fields is the order of the file.
  const weights = {
    embedding: cursor.take([vocabSize, dim]),
    attentionNorm: perLayer(dim),
    wq: perLayer(dim, dim),
    wk: perLayer(kvHeads * headDim, dim),
    wv: perLayer(kvHeads * headDim, dim),
    wo: perLayer(dim, dim),
    mlpNorm: perLayer(dim),
    w1: perLayer(hiddenDim, dim),
    w2: perLayer(dim, hiddenDim),
    w3: perLayer(hiddenDim, dim),
    finalNorm: cursor.take([dim]),
  };
  // Tables of cosines and sines, computed from the positions by every other implementation.
  cursor.take([2, seqLen, headDim / 2]);
  if (!config.tied) weights.head = cursor.take([vocabSize, dim]);
  return { config: { ...config, headDim }, weights, modelBytes: cursor.at };
}

class Cursor {
  constructor(bytes, at) {
    this.bytes = bytes;
    this.at = at;
  }

  /** The next tensor: f32, row-major. */
  take(shape) {
    const lengthBytes = shape.reduce((product, size) => product * size, 4);
    const bytes = this.bytes.subarray(this.at, this.at + lengthBytes);
    if (bytes.length < lengthBytes) throw new Error(`the model ends at byte ${this.bytes.length}`);
    this.at += lengthBytes;
    return { shape, bytes };
  }

  takeEach(count, shape) {
    return Array.from({ length: count }, () => this.take(shape));
  }
}

/**
 * Reorders the rows of a query or key projection. llama2.c rotates neighbouring channels (2i, 2i + 1) of a head,
 * Hugging Face the channels (i, i + headDim / 2): even channels of each head come first, then odd ones.
 */
export function toRotateHalf({ shape, bytes }, headDim) {
  const [rows, columns] = shape;
  const rowBytes = columns * 4;
  const reordered = Buffer.alloc(bytes.length);
  for (let row = 0; row < rows; row++) {
    const head = Math.floor(row / headDim);
    const channel = row % headDim;
    const half = Math.floor(channel / (headDim / 2));
    const source = head * headDim + 2 * (channel % (headDim / 2)) + half;
    bytes.copy(reordered, row * rowBytes, source * rowBytes, (source + 1) * rowBytes);
  }
  return { shape, bytes: reordered };
}
