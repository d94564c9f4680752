import { describe, expect, test } from "vitest";
import {
  LatencyTable,
  parseDeviceProfile,
  SIMULATED_DEVICES,
  simulatedDevice,
  type SimulatedDeviceName,
} from "../src/index.js";
import { expectError } from "./expect-error.js";

const KIB = 1024;

describe("simulated devices", () => {
  test.each(SIMULATED_DEVICES)("%s is a valid profile, marked as modelled", (name) => {
    const profile = simulatedDevice(name);
    expect(parseDeviceProfile(JSON.parse(JSON.stringify(profile)))).toEqual(profile);
    expect(profile.origin).toBe("modelled");
    expect(profile.name).toBe(name);
    expect(profile.source.length).toBeGreaterThan(20);
  });

  // Published figures, restated: KiB, then milliseconds.
  test.each<[SimulatedDeviceName, number, number]>([
    ["orin-agx", 1, 0.0110009 + 0.000139813],
    ["orin-agx", 7.5, 0.0110009 + 0.000139813 * 7.5],
    ["orin-agx", 236, 0.0110009 + 0.000139813 * 236],
    ["orin-agx", 237, 0.000187 * 237],
    ["orin-agx", 2360, 0.000187 * 2360],
    ["orin-nano", 4, 0.0157288 + 0.000284206 * 4],
    ["orin-nano", 348, 0.0157288 + 0.000284206 * 348],
    ["orin-nano", 696, 2 * (0.0157288 + 0.000284206 * 348)],
    ["nvme-gen4", 1, 0.00915],
    ["nvme-gen4", 4, 0.00915],
    ["nvme-gen4", 6, (0.00915 + 0.01168) / 2],
    ["nvme-gen4", 32, 0.0173],
    ["nvme-gen4", 160, 0.03307],
    ["nvme-gen4", 240, 0.03942],
    ["nvme-gen4", 480, 2 * 0.03942],
  ])("%s reads %d KiB in %d ms", (name, kib, ms) => {
    const table = new LatencyTable(simulatedDevice(name));
    expect(table.latencyNs(kib * KIB) / 1e6).toBeCloseTo(ms, 9);
  });

  test.each<[SimulatedDeviceName, number]>([
    ["orin-agx", 236],
    ["orin-nano", 348],
    ["nvme-gen4", 240],
  ])("%s saturates at %d KiB", (name, kib) => {
    expect(simulatedDevice(name).saturationBytes).toBe(kib * KIB);
  });

  test.each(SIMULATED_DEVICES)("%s never reads more for less, around saturation too", (name) => {
    const table = new LatencyTable(simulatedDevice(name));
    let previousNs = 0;
    for (let sizeBytes = 0; sizeBytes <= 1024 * KIB; sizeBytes += 128) {
      const latencyNs = table.latencyNs(sizeBytes);
      expect(latencyNs).toBeGreaterThanOrEqual(previousNs);
      previousNs = latencyNs;
    }
  });

  test("an unknown name lists those there are", () => {
    const unknown = "floppy" as SimulatedDeviceName;
    expectError(() => simulatedDevice(unknown), "UNKNOWN_DEVICE", "name");
    expect(() => simulatedDevice(unknown)).toThrow(/orin-agx, orin-nano, nvme-gen4/);
  });
});
