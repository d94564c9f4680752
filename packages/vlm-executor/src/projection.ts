import type { ComputeBackend, Permutation, Tensor, Vector } from "./backend/compute-backend.js";
import type { ChunkedLinear, Pass } from "./chunked-linear.js";

/** Buffers [block, columns] by their number of columns, made once and reused by every layer. */
export class ScratchTensors {
  private readonly byColumns = new Map<string, Tensor>();

  constructor(
    private readonly backend: ComputeBackend,
    private readonly blockTokens: number,
  ) {}

  /** The buffer of `columns` for one `use`; two uses never share memory. */
  get(use: string, columns: number): Tensor {
    const key = `${use}:${columns}`;
    let tensor = this.byColumns.get(key);
    if (tensor === undefined) {
      tensor = this.backend.createTensor(this.blockTokens, columns);
      this.byColumns.set(key, tensor);
    }
    return tensor;
  }
}

/**
 * Projections that share an input: one stored matrix when bundled, else one for each, whose outputs are
 * put side by side so that the layer sees the same columns either way.
 */
export class Projection {
  /**
   * @param members stored matrices in the order of their output columns
   * @param bias over all output columns
   */
  constructor(
    private readonly backend: ComputeBackend,
    private readonly members: readonly ChunkedLinear[],
    private readonly bias: Vector | null,
  ) {}

  get columns(): number {
    return this.members.reduce((sum, member) => sum + member.columns, 0);
  }

  /** Order that the input can be produced in at no cost: the one all members want. */
  get inputOrder(): Permutation | null {
    const [first, ...others] = this.members;
    const shared = others.every((member) => member.permutation === first.permutation);
    return shared ? first.permutation : null;
  }

  /** Activation bytes per token that `forward` takes from `scratch`. */
  scratchColumns(inputs: number): number {
    const outputs = this.members.length > 1 ? this.members.map((member) => member.columns) : [];
    const inputCopies = this.members.some((member) => member.permutation !== null) ? inputs : 0;
    return [...new Set(outputs)].reduce((sum, columns) => sum + columns, inputCopies);
  }

  /**
   * `y = x W + b`, or `y += x W + b` with `accumulate`.
   *
   * @param order the order `x` [T, K] is in; where a member wants another, it is gathered first
   */
  async forward(
    x: Tensor,
    order: Permutation | null,
    y: Tensor,
    accumulate: boolean,
    scratch: ScratchTensors,
    pass: Pass,
  ): Promise<void> {
    let column = 0;
    let sibling: ChunkedLinear | undefined;
    for (const member of this.members) {
      const input = this.inOrder(x, order, member.permutation, scratch);
      if (this.members.length === 1) {
        await member.forward(input, y, accumulate, pass);
      } else {
        const part = scratch.get("part", member.columns);
        part.rows = x.rows;
        // Gathered inputs differ where the orders do.
        const sameInput = sibling?.permutation === member.permutation ? sibling : undefined;
        await member.forward(input, part, false, pass, sameInput);
        sibling = member;
        this.backend.copyColumns(part, 0, member.columns, y, 0, column);
      }
      column += member.columns;
    }
    if (this.bias !== null) this.backend.addBias(y, this.bias);
  }

  private inOrder(
    x: Tensor,
    order: Permutation | null,
    wanted: Permutation | null,
    scratch: ScratchTensors,
  ): Tensor {
    if (wanted === order || wanted === null) return x;
    const gathered = scratch.get("gathered", x.columns);
    gathered.rows = x.rows;
    this.backend.gather(x, wanted, gathered);
    return gathered;
  }
}
