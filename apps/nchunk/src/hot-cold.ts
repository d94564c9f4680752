import { hotColdPermutation, type Calibration } from "@neuron-chunking/chunk-selector";

/** Stored matrices that take the same input: how often its channels are active is the same for all. */
const SAME_INPUT = [
  ["attn_in", "q", "k", "v"],
  ["attn_out", "o"],
  ["mlp_in", "gate", "up"],
  ["mlp_out", "down"],
];

/**
 * Hot-cold row orders from the activation counts of a calibration, for an image that is bundled or not, whatever
 * the image was that the calibration was made with.
 */
export function hotColdOf(
  { bundles }: Pick<Calibration, "bundles">,
  bundled: boolean,
): Record<string, Uint32Array> {
  const orders: Record<string, Uint32Array> = {};
  for (const { name, activeCounts } of bundles) {
    const at = name.lastIndexOf(".") + 1;
    const kinds = SAME_INPUT.find((group) => group.includes(name.slice(at))) ?? [name.slice(at)];
    const order = hotColdPermutation(activeCounts);
    const [together, ...apart] = kinds;
    for (const kind of bundled ? [together] : apart) orders[name.slice(0, at) + kind] = order;
  }
  return orders;
}
