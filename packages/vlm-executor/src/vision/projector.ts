import type { ComputeBackend, Tensor } from "../backend/compute-backend.js";
import type { Affine } from "./siglip.js";

export interface ProjectorWeights {
  readonly first: Affine;
  readonly second: Affine;
}

/** Vision features to the decoder's width: `y = GELU(x W1 + b1) W2 + b2`. */
export class Projector {
  private readonly inner: Tensor;

  /** @param rows features of one tile */
  constructor(
    private readonly backend: ComputeBackend,
    private readonly weights: ProjectorWeights,
    rows: number,
  ) {
    this.inner = backend.createTensor(rows, weights.first.weight.outputs);
  }

  async project(features: Tensor, y: Tensor): Promise<void> {
    const { first, second } = this.weights;
    await this.backend.linear(features, first.weight, first.bias, this.inner, "gelu");
    await this.backend.linear(this.inner, second.weight, second.bias, y);
  }
}
