/** Every field of the format. */
export const full = {
  schemaVersion: 1,
  name: "laptop",
  origin: "measured",
  source: "profiled with flash-reader 1.0.0",
  createdAt: "2025-11-20T16:00:00.125Z",
  reader: {
    backend: "pool",
    directIo: true,
    threads: 6,
    alignmentBytes: 4096,
    tuning: {
      backend: "io_uring",
      queueDepth: 64,
      threads: 8,
      maxBytesInFlight: 4194304,
      submitBatch: 16,
      maxRequestBytes: 262144,
      readThroughBytes: 4096,
    },
  },
  device: { model: "990 Pro", kernel: "6.1.0", queueDepth: 64, rotational: false },
  table: { sizesBytes: [4096, 8192, 16384], latencyNs: [9000, 9000.5, 12000] },
  saturationBytes: 16384,
  tailNsPerByte: 0.73,
  noise: { relativeSpread: 0.02, rejectedRounds: 0 },
  samples: [{ sizeBytes: 4096, latencyNs: [8900, 9100] }],
  backends: [
    {
      name: "pool",
      table: { sizesBytes: [4096, 8192], latencyNs: [9000, 9500] },
      samples: [{ sizeBytes: 4096, latencyNs: [8900] }],
    },
    { name: "io_uring", table: { sizesBytes: [4096], latencyNs: [8000] } },
  ],
  queue: [
    { backend: "io_uring", sizeBytes: 4096, depths: [1, 4, 16], latencyNs: [80000, 21000, 22000] },
  ],
  batchModel: {
    lanes: 12,
    fixedNs: 80000,
    sumWeight: 0.9,
    laneWeight: 0.1,
    perRequestNs: 0,
    stragglerNs: 5000,
    unloaded: { sizesBytes: [4096, 16384], latencyNs: [82000, 90000] },
    readThroughBytes: 0,
    maxRequestBytes: 262144,
  },
  validation: {
    masks: [
      {
        rowBytes: 1792,
        kind: "random",
        chunks: 120,
        bytes: 1075200,
        measuredNs: 1.5e6,
        sumNs: 1.2e6,
        batchNs: 1.45e6,
      },
    ],
    sum: { r2: -0.5, mape: 0.2 },
    batch: { r2: 0.995, mape: 0.04 },
  },
  rounds: [{ deviation: 0.01, flagged: false, rejected: false }],
  key: "sha256:0f1e",
  probeVersion: 2,
} as const;

/** A copy of `full` with one field, by dotted path, set or (undefined) removed. */
export function changed(path: string, value: unknown): unknown {
  const copy = structuredClone(full) as unknown;
  const keys = path.split(".");
  const last = keys.pop() as string;
  let parent = copy as Record<string, unknown>;
  for (const key of keys) parent = parent[key] as Record<string, unknown>;
  if (value === undefined) delete parent[last];
  else parent[last] = value;
  return copy;
}
