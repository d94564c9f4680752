import { saturationSizeBytes } from "@neuron-chunking/latency-model";
import type { DeviceProfile, LatencyCurve } from "@neuron-chunking/latency-model";

export type SaturatedCurve = Pick<DeviceProfile, "table" | "saturationBytes" | "tailNsPerByte">;

/** A table with the size at which it saturates and the slope past that (paper App. D). */
export function asCurve(table: LatencyCurve): SaturatedCurve {
  const saturationBytes = saturationSizeBytes(table.sizesBytes, table.latencyNs);
  const saturationNs = table.latencyNs[table.sizesBytes.indexOf(saturationBytes)];
  return { table, saturationBytes, tailNsPerByte: saturationNs / saturationBytes };
}
