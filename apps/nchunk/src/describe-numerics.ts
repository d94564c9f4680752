import type { Rounding, VlmExecutor } from "@neuron-chunking/vlm-executor";

const ROUNDING: Record<Rounding, string> = {
  "bf16-dot": "operands rounded to bf16 with many tokens",
  "int8-dot": "activations rounded to 8 bits with few tokens",
};

/** How a model's streamed weights are stored and multiplied, for people: "exact" is only ever said of these weights. */
export function describeNumerics({
  weightFormats,
  rounding,
}: Pick<VlmExecutor, "weightFormats" | "rounding">): string {
  const weights = weightFormats
    .map(({ dtype, groupSize }) =>
      groupSize === undefined
        ? `${dtype} weights`
        : `${dtype} weights in groups of ${groupSize}, a lossy copy of the checkpoint's`,
    )
    .join(" and ");
  return [weights, ...rounding.map((name) => ROUNDING[name])].join("; ");
}
