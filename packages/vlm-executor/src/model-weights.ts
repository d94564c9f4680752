import type { BundleInfo, FlashImage } from "@neuron-chunking/weight-store";
import type {
  ComputeBackend,
  HostTensor,
  Permutation,
  Vector,
  Weight,
} from "./backend/compute-backend.js";
import { ChunkedLinear } from "./chunked-linear.js";
import type { Streaming } from "./chunked-linear.js";
import { patchesPerTile } from "./config.js";
import type { DecoderConfig, MultimodalConfig, VisionConfig } from "./config.js";
import type { DecoderLayer, DecoderWeights } from "./decoder.js";
import { VlmExecutorError } from "./errors.js";
import { Projection } from "./projection.js";
import { requireWeightDtype } from "./weight-dtype.js";
import type { Affine, Norm, VisionLayer, VisionWeights } from "./vision/siglip.js";
import type { ProjectorWeights } from "./vision/projector.js";

/** Stored matrices that make up each projection, bundled first, then one by one. */
const STORED_AS = {
  qkv: [["attn_in"], ["q", "k", "v"]],
  output: [["attn_out"], ["o"]],
  gateUp: [["mlp_in"], ["gate", "up"]],
  down: [["mlp_out"], ["down"]],
} as const;

/** Resident tensors of a flash image, checked against the shape the configuration asks for. */
class Residents {
  constructor(
    private readonly image: FlashImage,
    private readonly backend: ComputeBackend,
  ) {}

  tensor(name: string, shape: readonly number[]): HostTensor {
    const { dtype, bytes, shape: got } = this.image.resident(name);
    if (got.length !== shape.length || got.some((size, i) => size !== shape[i])) {
      throw new VlmExecutorError(
        "WRONG_SHAPE",
        `${name} is [${got.join(", ")}] where config.json asks for [${shape.join(", ")}]; convert the checkpoint again.`,
        { path: this.image.dir, expected: shape, got },
      );
    }
    return { dtype: requireWeightDtype(dtype, name), bytes, shape: got };
  }

  vector(...sources: readonly (readonly [name: string, length: number])[]): Vector {
    return this.backend.createVector(sources.map(([name, length]) => this.tensor(name, [length])));
  }

  weight(name: string, outputs: number, inputs: number): Weight {
    return this.backend.createWeight(this.tensor(name, [outputs, inputs]), outputs, inputs);
  }

  affine(prefix: string, outputs: number, inputs: number, bias = true): Affine {
    return {
      weight: this.weight(`${prefix}.weight`, outputs, inputs),
      bias: bias ? this.vector([`${prefix}.bias`, outputs]) : null,
    };
  }

  norm(prefix: string, length: number): Norm {
    return {
      weight: this.vector([`${prefix}.weight`, length]),
      bias: this.vector([`${prefix}.bias`, length]),
    };
  }
}

/** Largest number of rows of any stored matrix. */
export function maxStoredRows(config: DecoderConfig): number {
  const { hiddenSize, intermediateSize, headCount, headDim } = config;
  return Math.max(hiddenSize, intermediateSize, headCount * headDim);
}

/** @throws VlmExecutorError `WRONG_SHAPE`, `MISSING_TENSOR` */
export function loadDecoderWeights(
  image: FlashImage,
  config: DecoderConfig,
  streaming: Streaming,
): DecoderWeights {
  const { backend } = streaming;
  const residents = new Residents(image, backend);
  const { hiddenSize, vocabSize } = config;
  const embedding = residents.weight("decoder.embed_tokens.weight", vocabSize, hiddenSize);
  const projections = new ProjectionLoader(image, streaming);
  return {
    embedding,
    layers: Array.from({ length: config.layerCount }, (_, layer) =>
      loadLayer(layer, config, residents, projections),
    ),
    finalNorm: residents.vector(["decoder.norm.weight", hiddenSize]),
    head: config.tiedHead ? embedding : residents.weight("lm_head.weight", vocabSize, hiddenSize),
    inverseFrequencies: backend.vectorFrom(config.inverseFrequencies),
  };
}

function loadLayer(
  layer: number,
  config: DecoderConfig,
  residents: Residents,
  projections: ProjectionLoader,
): DecoderLayer {
  const { hiddenSize, intermediateSize, headDim, biases } = config;
  const queryColumns = config.headCount * headDim;
  const kvColumns = config.kvHeadCount * headDim;
  const prefix = `decoder.layers.${layer}`;
  const norm = (name: string) => residents.vector([`${prefix}.${name}.weight`, hiddenSize]);
  const qkv = { q_proj: queryColumns, k_proj: kvColumns, v_proj: kvColumns };
  const gateUp = { gate_proj: intermediateSize, up_proj: intermediateSize };
  const bias = (module: string, parts: Record<string, number>, present: boolean) =>
    present
      ? residents.vector(
          ...Object.entries(parts).map(
            ([part, columns]) => [`${prefix}.${module}.${part}.bias`, columns] as const,
          ),
        )
      : null;
  const output = { o_proj: hiddenSize };
  const down = { down_proj: hiddenSize };
  return {
    inputNorm: norm("input_layernorm"),
    qkv: projections.load(layer, "qkv", hiddenSize, qkv, bias("self_attn", qkv, biases.qkv)),
    output: projections.load(
      layer,
      "output",
      queryColumns,
      output,
      bias("self_attn", output, biases.output),
    ),
    postAttentionNorm: norm("post_attention_layernorm"),
    gateUp: projections.load(layer, "gateUp", hiddenSize, gateUp, bias("mlp", gateUp, biases.mlp)),
    down: projections.load(layer, "down", intermediateSize, down, bias("mlp", down, biases.mlp)),
  };
}

/** Finds the stored matrices of a projection, bundled or not, and checks their shapes. */
class ProjectionLoader {
  /** Equal permutations share one handle, so that layers can tell by identity that none is needed. */
  private readonly permutations: { order: Uint32Array; handle: Permutation }[] = [];
  private readonly names: ReadonlySet<string>;

  constructor(
    private readonly image: FlashImage,
    private readonly streaming: Streaming,
  ) {
    this.names = new Set(image.bundles.map((bundle) => bundle.name));
  }

  /** @param parts columns of each part, in output order */
  load(
    layer: number,
    projection: keyof typeof STORED_AS,
    rows: number,
    parts: Readonly<Record<string, number>>,
    bias: Vector | null,
  ): Projection {
    const [bundled, single] = STORED_AS[projection];
    const name = (kind: string) => `layers.${layer}.${kind}`;
    const kinds: readonly string[] = this.names.has(name(bundled[0])) ? bundled : single;
    const members = kinds.map((kind) => {
      if (!this.names.has(name(kind))) {
        throw new VlmExecutorError(
          "MISSING_TENSOR",
          `${this.image.dir} holds no matrix ${name(kind)}; convert the checkpoint again.`,
          { path: this.image.dir, layer, bundle: name(kind) },
        );
      }
      return this.image.bundle(name(kind));
    });
    this.check(members, layer, rows, parts);
    const linears = members.map(
      (info) => new ChunkedLinear(this.streaming, info, this.permutation(info)),
    );
    return new Projection(this.streaming.backend, linears, bias);
  }

  private check(
    members: readonly BundleInfo[],
    layer: number,
    rows: number,
    parts: Readonly<Record<string, number>>,
  ): void {
    const got = members.flatMap((info) =>
      info.parts.map((part) => `${part.name} [${info.rows}, ${part.columns}]`),
    );
    const expected = Object.entries(parts).map(
      ([part, columns]) => `${part} [${rows}, ${columns}]`,
    );
    if (got.join() === expected.join()) return;
    throw new VlmExecutorError(
      "WRONG_SHAPE",
      `Layer ${layer} of ${this.image.dir} stores ${got.join(", ")} where config.json asks for ${expected.join(", ")}; convert the checkpoint again.`,
      { path: this.image.dir, layer, expected, got },
    );
  }

  private permutation(info: BundleInfo): Permutation | null {
    const order = info.permutation;
    if (order === undefined) return null;
    const known = this.permutations.find(
      (other) => other.order.length === order.length && other.order.every((v, i) => v === order[i]),
    );
    if (known !== undefined) return known.handle;
    const handle = this.streaming.backend.createPermutation(order);
    this.permutations.push({ order, handle });
    return handle;
  }
}

/** @throws VlmExecutorError `WRONG_SHAPE` */
export function loadVisionWeights(
  image: FlashImage,
  backend: ComputeBackend,
  config: VisionConfig,
  depth: number,
): VisionWeights {
  const residents = new Residents(image, backend);
  const { hiddenSize, channels, patchSize } = config;
  const patches = patchesPerTile(config);
  const convolution = residents.tensor("vision.embeddings.patch_embedding.weight", [
    hiddenSize,
    channels,
    patchSize,
    patchSize,
  ]);
  const positions = residents.tensor("vision.embeddings.position_embedding.weight", [
    patches,
    hiddenSize,
  ]);
  const positionRows = backend.createTensor(patches, hiddenSize);
  const table = backend.createWeight(positions, patches, hiddenSize);
  backend.embed(
    table,
    Int32Array.from({ length: patches }, (_, i) => i),
    positionRows,
  );
  return {
    patch: {
      weight: backend.createWeight(convolution, hiddenSize, channels * patchSize ** 2),
      bias: residents.vector(["vision.embeddings.patch_embedding.bias", hiddenSize]),
    },
    positions: positionRows,
    layers: Array.from({ length: depth }, (_, layer) => loadVisionLayer(layer, config, residents)),
  };
}

function loadVisionLayer(
  layer: number,
  { hiddenSize, intermediateSize }: VisionConfig,
  residents: Residents,
): VisionLayer {
  const prefix = `vision.encoder.layers.${layer}`;
  const square = (name: string) =>
    residents.affine(`${prefix}.self_attn.${name}`, hiddenSize, hiddenSize);
  return {
    norm1: residents.norm(`${prefix}.layer_norm1`, hiddenSize),
    query: square("q_proj"),
    key: square("k_proj"),
    value: square("v_proj"),
    output: square("out_proj"),
    norm2: residents.norm(`${prefix}.layer_norm2`, hiddenSize),
    expand: residents.affine(`${prefix}.mlp.fc1`, intermediateSize, hiddenSize),
    contract: residents.affine(`${prefix}.mlp.fc2`, hiddenSize, intermediateSize),
  };
}

/** @throws VlmExecutorError `WRONG_SHAPE` */
export function loadProjectorWeights(
  image: FlashImage,
  backend: ComputeBackend,
  config: MultimodalConfig,
  hiddenSize: number,
): ProjectorWeights {
  const residents = new Residents(image, backend);
  const inputs = config.vision.hiddenSize * config.featureLayers.length;
  return {
    first: residents.affine("projector.linear_1", hiddenSize, inputs, config.projectorBias),
    second: residents.affine("projector.linear_2", hiddenSize, hiddenSize, config.projectorBias),
  };
}

/** The vector that ends each row of a picture's features, and a clip. [hidden], f32 */
export function loadNewline(
  image: FlashImage,
  backend: ComputeBackend,
  hiddenSize: number,
): Float32Array {
  const source = new Residents(image, backend).tensor("image_newline", [hiddenSize]);
  const row = backend.createTensor(1, hiddenSize);
  const values = new Float32Array(hiddenSize);
  backend.embed(backend.createWeight(source, 1, hiddenSize), Int32Array.of(0), row);
  void backend.read(row, 0, values);
  return values;
}
