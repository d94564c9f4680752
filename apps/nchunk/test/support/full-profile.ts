import { parseDeviceProfile, type DeviceProfile } from "@neuron-chunking/latency-model";

const KIB = 1024;
const SIZES = [1, 2, 4, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024].map(
  (kib) => kib * KIB,
);
const ROUNDS = 10;
const DEPTHS = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/** Repeatable numbers in 0..1, good enough to scatter points. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const curve = (fixedNs: number, nsPerByte: number) => ({
  sizesBytes: SIZES,
  latencyNs: SIZES.map((size) => Math.max(fixedNs + size * nsPerByte * 0.55, size * nsPerByte)),
});

function samples(table: { sizesBytes: number[]; latencyNs: number[] }, next: () => number) {
  return table.sizesBytes.map((sizeBytes, i) => ({
    sizeBytes,
    latencyNs: Array.from(
      { length: ROUNDS },
      () => table.latencyNs[i] * (1 + 0.08 * (next() - 0.45)),
    ),
  }));
}

function sweep(backend: string, sizeBytes: number, peakNs: number) {
  return {
    backend,
    sizeBytes,
    depths: DEPTHS,
    latencyNs: DEPTHS.map((depth) => peakNs * (1 + 22 / depth) + (depth > 100 ? peakNs / 9 : 0)),
  };
}

/** A profile with every part there is, made up but of the right shape: what a full run on an NVMe disk would hold. */
export function fullProfile(changes: Record<string, unknown> = {}): DeviceProfile {
  const next = randomNumbers(7);
  const ioUring = curve(2_600, 0.16);
  const pool = curve(7_900, 0.172);
  const masks = Array.from({ length: 48 }, (_, i) => {
    const bytes = Math.round(2 ** (18 + (i % 8)) * (1 + next()));
    const sumNs = bytes * (0.3 + 0.2 * next());
    return {
      rowBytes: [1792, 7168, 9728][i % 3],
      kind: i % 2 === 0 ? "random" : "selected",
      chunks: 10 + i * 7,
      bytes,
      measuredNs: sumNs * (1.25 + 0.3 * next()),
      sumNs,
      batchNs: sumNs * (1.37 + 0.1 * next()),
    };
  });
  return parseDeviceProfile({
    schemaVersion: 1,
    name: "Example SSD 990",
    origin: "measured",
    source: "made up for a test",
    createdAt: "2026-11-20T19:00:00Z",
    key: "0123456789abcdef",
    probeVersion: 2,
    reader: {
      backend: "io_uring",
      directIo: true,
      threads: 8,
      alignmentBytes: 512,
      tuning: {
        backend: "io_uring",
        queueDepth: 64,
        threads: 8,
        maxBytesInFlight: 8 << 20,
        submitBatch: 16,
        maxRequestBytes: 512 * KIB,
        readThroughBytes: 6 * KIB,
      },
    },
    device: {
      model: "Example SSD 990",
      firmware: "4B2QJXD7",
      link: "16.0 GT/s PCIe x4",
      fileSystem: "ext4",
      mountOptions: "rw,relatime",
      kernel: "6.8.0",
      queueRequests: 1023,
      rotational: false,
    },
    table: ioUring,
    saturationBytes: 256 * KIB,
    tailNsPerByte: 0.16,
    noise: { relativeSpread: 0.031, worstRelativeSpread: 0.094, rounds: ROUNDS },
    samples: samples(ioUring, next),
    backends: [
      { name: "io_uring", table: ioUring, samples: samples(ioUring, next) },
      { name: "pool", table: pool, samples: samples(pool, next) },
    ],
    queue: ["io_uring", "pool"].flatMap((backend, i) =>
      [4, 16, 64, 256, 1024].map((kib) => {
        const table = i === 0 ? ioUring : pool;
        return sweep(backend, kib * KIB, table.latencyNs[SIZES.indexOf(kib * KIB)]);
      }),
    ),
    batchModel: {
      lanes: 8,
      fixedNs: 21_000,
      sumWeight: 0.9,
      laneWeight: 0.3,
      perRequestNs: 800,
      unloaded: curve(70_000, 0.3),
      readThroughBytes: 6 * KIB,
      maxRequestBytes: 512 * KIB,
    },
    validation: { masks, sum: { r2: 0.931, mape: 0.124 }, batch: { r2: 0.987, mape: 0.041 } },
    rounds: Array.from({ length: ROUNDS }, (_, i) => ({
      deviation: i === 3 ? 0.27 : i === 6 ? 0.052 : 0.006 + 0.015 * next(),
      flagged: i === 3 || i === 6,
      rejected: i === 3,
    })),
    ...changes,
  });
}
