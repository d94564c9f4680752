/** Weights are stored in 16 bits, as in the paper. */
const BYTES_PER_WEIGHT = 2;

/** Sizes of one decoder layer, in channels; `o` takes the query channels and gives hidden ones. */
interface LayerShape {
  readonly model: string;
  readonly hidden: number;
  readonly intermediate: number;
  readonly query: number;
  readonly keyValue: number;
}

/** The models of the paper's Table 3 but LongVA, whose layers are those of LLaVA-OneVision 7B. */
const LAYERS: readonly LayerShape[] = [
  { model: "LLaVA-OneVision 7B", hidden: 3584, intermediate: 18944, query: 3584, keyValue: 512 },
  { model: "LLaVA-OneVision 0.5B", hidden: 896, intermediate: 4864, query: 896, keyValue: 128 },
  { model: "VILA 8B", hidden: 4096, intermediate: 14336, query: 4096, keyValue: 1024 },
  { model: "NVILA 2B", hidden: 1536, intermediate: 8960, query: 1536, keyValue: 256 },
];

/** One matrix on flash: a projection, or a bundle of projections that share an input. */
export interface MatrixShape {
  readonly model: string;
  /** `q`, ..., `down`, or `attn_in`, ..., `mlp_out`. */
  readonly bundle: string;
  readonly bundled: boolean;
  /** Input channels. */
  readonly rows: number;
  /** Of all output channels of one input channel. */
  readonly rowBytes: number;
}

function matricesOf({ model, hidden, intermediate, query, keyValue }: LayerShape): MatrixShape[] {
  const matrix = (
    bundled: boolean,
    bundle: string,
    rows: number,
    ...columns: readonly number[]
  ): MatrixShape => {
    const rowBytes = BYTES_PER_WEIGHT * columns.reduce((sum, count) => sum + count, 0);
    return { model, bundle, bundled, rows, rowBytes };
  };
  return [
    matrix(false, "q", hidden, query),
    matrix(false, "k", hidden, keyValue),
    matrix(false, "v", hidden, keyValue),
    matrix(false, "o", query, hidden),
    matrix(false, "gate", hidden, intermediate),
    matrix(false, "up", hidden, intermediate),
    matrix(false, "down", intermediate, hidden),
    matrix(true, "attn_in", hidden, query, keyValue, keyValue),
    matrix(true, "attn_out", query, hidden),
    matrix(true, "mlp_in", hidden, intermediate, intermediate),
    matrix(true, "mlp_out", intermediate, hidden),
  ];
}

/** One layer of every model, as seven projections and as four bundles, in the order of the report. */
export const MATRIX_SHAPES: readonly MatrixShape[] = LAYERS.flatMap(matricesOf);
