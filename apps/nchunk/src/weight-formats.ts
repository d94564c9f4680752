import type { VlmExecutor } from "@neuron-chunking/vlm-executor";

/** How a model's streamed weights are stored, for people: "exact" is only ever said of these weights. */
export function describeWeights({ weightFormats }: Pick<VlmExecutor, "weightFormats">): string {
  return weightFormats
    .map(({ dtype, groupSize }) =>
      groupSize === undefined
        ? `${dtype} weights`
        : `${dtype} weights in groups of ${groupSize}, a lossy copy of the checkpoint's`,
    )
    .join(" and ");
}
