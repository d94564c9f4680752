import { BatchModel, BatchTerms } from "./batch-model.js";
import type { DeviceProfile } from "./device-profile.js";
import { LatencyTable } from "./latency-table.js";

/**
 * `T[s]` as a chunk costs within a batch: what the batch model of a profile charges for the requests that a chunk of `s`
 * bytes becomes, without what it charges once. For selectors, which add chunk by chunk and cannot ask about whole batches:
 *
 * `T'[s] = sumWeight * T[s] + perRequestNs + laneWeight * U[s] / lanes`
 *
 * up to the longest request, the busiest of evenly filled lanes being their mean; longer chunks are split into such
 * requests, so from there on the table is proportional. `fixedNs` and `stragglerNs` do not depend on the chunk.
 *
 * @param profile A device profile; it is validated.
 * @returns the profile's own table where it has no batch model.
 * @throws LatencyModelError `INVALID_PROFILE`.
 */
export function requestTable(profile: DeviceProfile): LatencyTable {
  const table = new LatencyTable(profile);
  if (profile.batchModel === undefined) return table;
  const { parameters } = new BatchModel(table, profile.batchModel);
  const terms = new BatchTerms(table, parameters.unloaded, parameters);
  const saturationBytes = Math.min(table.saturationBytes, parameters.maxRequestBytes);
  const sizesBytes = profile.table.sizesBytes.filter((sizeBytes) => sizeBytes < saturationBytes);
  sizesBytes.push(saturationBytes);
  const { sumWeight, perRequestNs, laneWeight, lanes } = parameters;
  const latencyNs = sizesBytes.map((sizeBytes) => {
    const laneNs = (laneWeight * terms.unloadedNs(sizeBytes)) / lanes;
    return sumWeight * table.latencyNs(sizeBytes) + perRequestNs + laneNs;
  });
  return new LatencyTable({
    schemaVersion: profile.schemaVersion,
    name: profile.name,
    origin: profile.origin,
    source: profile.source,
    table: { sizesBytes, latencyNs },
    saturationBytes,
    tailNsPerByte: latencyNs[latencyNs.length - 1] / saturationBytes,
  });
}
