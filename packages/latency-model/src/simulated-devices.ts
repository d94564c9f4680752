import type { DeviceProfile } from "./device-profile.js";
import { describeValue, LatencyModelError } from "./errors.js";

const KIB = 1024;
const NS_PER_MS = 1e6;
const NS_PER_US = 1e3;

/** Devices that can be planned for without owning them; every one has `origin: "modelled"`. */
export const SIMULATED_DEVICES = Object.freeze(["orin-agx", "orin-nano", "nvme-gen4"] as const);

/** Name of a simulated device. */
export type SimulatedDeviceName = (typeof SIMULATED_DEVICES)[number];

/** A published straight line `T(z KiB) = interceptMs + slopeMsPerKib * z`, up to saturation. */
interface LinearFit {
  readonly interceptMs: number;
  readonly slopeMsPerKib: number;
  readonly saturationKib: number;
}

// Jetson AGX Orin with a Samsung 990 Pro (7450 MB/s sequential). Saturation: "VLM in a flash" (arXiv
// 2511.18692), App. D and H. Line: a published affine fit of that device's latency table, R^2 = 0.9867.
// Slope past saturation, published too: 0.000187 ms/KiB (5.48 GB/s).
const ORIN_AGX: LinearFit = {
  interceptMs: 0.0110009,
  slopeMsPerKib: 0.000139813,
  saturationKib: 236,
};
const ORIN_AGX_TAIL_MS_PER_KIB = 0.000187;

// Jetson Orin Nano with an SK hynix P31 (3500 MB/s sequential). Saturation: the same paper, App. D and H.
// Line: the published affine fit for that device. No slope past saturation is published, so the tail
// continues the throughput at saturation (348 KiB in 0.1146 ms: 3.11 GB/s).
const ORIN_NANO: LinearFit = {
  interceptMs: 0.0157288,
  slopeMsPerKib: 0.000284206,
  saturationKib: 348,
};
const ORIN_NANO_TAIL_MS_PER_KIB =
  (ORIN_NANO.interceptMs + ORIN_NANO.slopeMsPerKib * ORIN_NANO.saturationKib) /
  ORIN_NANO.saturationKib;

// PCIe Gen4 NVMe drives (Samsung/WD) in a laptop: published measurements, [KiB, microseconds]. Throughput
// still rises at the last sample (6.2 GB/s), so that is the saturation size and the tail is proportional.
const NVME_GEN4_SAMPLES_KIB_US: readonly (readonly [number, number])[] = [
  [4, 9.15],
  [8, 11.68],
  [16, 13.64],
  [32, 17.3],
  [64, 19.77],
  [96, 27.68],
  [128, 28.15],
  [160, 33.07],
  [192, 35.31],
  [224, 39.09],
  [240, 39.42],
];

/**
 * The profile of a device from published figures, for planning without the hardware. A new object at each call.
 *
 * @throws LatencyModelError `UNKNOWN_DEVICE` listing the names there are.
 */
export function simulatedDevice(name: SimulatedDeviceName): DeviceProfile {
  switch (name) {
    case "orin-agx":
      return linearProfile(
        name,
        "Affine fit of the NVIDIA Jetson AGX Orin (Samsung 990 Pro) latency table; arXiv 2511.18692 App. D, H",
        ORIN_AGX,
        ORIN_AGX_TAIL_MS_PER_KIB,
      );
    case "orin-nano":
      return linearProfile(
        name,
        "Affine fit of the NVIDIA Jetson Orin Nano (SK hynix P31) latency table; arXiv 2511.18692 App. D, H",
        ORIN_NANO,
        ORIN_NANO_TAIL_MS_PER_KIB,
      );
    case "nvme-gen4":
      return nvmeGen4Profile();
    default:
      throw new LatencyModelError("UNKNOWN_DEVICE", "Unknown simulated device", {
        path: "name",
        expected: `one of ${SIMULATED_DEVICES.join(", ")}`,
        got: describeValue(name),
        remedy: "To use this machine's own disk, measure it and load the profile instead.",
      });
  }
}

/** Sampled in 1 KiB steps, as the paper profiles its devices (App. D). */
function linearProfile(
  name: string,
  source: string,
  fit: LinearFit,
  tailMsPerKib: number,
): DeviceProfile {
  const sizesKib = Array.from({ length: fit.saturationKib }, (_, index) => index + 1);
  return {
    schemaVersion: 1,
    name,
    origin: "modelled",
    source,
    table: {
      sizesBytes: sizesKib.map((kib) => kib * KIB),
      latencyNs: sizesKib.map((kib) => (fit.interceptMs + fit.slopeMsPerKib * kib) * NS_PER_MS),
    },
    saturationBytes: fit.saturationKib * KIB,
    tailNsPerByte: (tailMsPerKib * NS_PER_MS) / KIB,
  };
}

function nvmeGen4Profile(): DeviceProfile {
  const [lastKib, lastUs] = NVME_GEN4_SAMPLES_KIB_US[NVME_GEN4_SAMPLES_KIB_US.length - 1];
  return {
    schemaVersion: 1,
    name: "nvme-gen4",
    origin: "modelled",
    source: "Published read latencies of Samsung/WD PCIe Gen4 NVMe drives in a laptop",
    table: {
      sizesBytes: NVME_GEN4_SAMPLES_KIB_US.map(([kib]) => kib * KIB),
      latencyNs: NVME_GEN4_SAMPLES_KIB_US.map(([, us]) => us * NS_PER_US),
    },
    saturationBytes: lastKib * KIB,
    tailNsPerByte: (lastUs * NS_PER_US) / (lastKib * KIB),
  };
}
