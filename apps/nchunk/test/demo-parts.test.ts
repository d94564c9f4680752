import { describe, expect, it } from "vitest";
import { lognormalImportance } from "../src/demo/importance";
import { isRight } from "../src/demo/is-right";
import { formatBytes, formatNs } from "../src/terminal/format";

describe("the importances at scale", () => {
  it("have the coefficient of variation asked for, and are the same each time", () => {
    const values = lognormalImportance(200_000, 1.3, 11);
    const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
    const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
    expect(Math.sqrt(variance) / mean).toBeCloseTo(1.3, 1);
    expect(lognormalImportance(100, 1.3, 5)).toEqual(lognormalImportance(100, 1.3, 5));
    expect(lognormalImportance(100, 1.3, 5)).not.toEqual(lognormalImportance(100, 1.3, 6));
  });
});

describe("an answer", () => {
  it.each([
    ["red", "red", true],
    [" Red.", "red", true],
    ["reddish", "red", false],
    ["", "red", false],
  ])("%j for %j is right: %s", (answer, expected, right) => {
    expect(isRight(answer, expected)).toBe(right);
  });
});

describe("figures", () => {
  it("carry their unit", () => {
    expect(formatBytes(512)).toBe("512 B");
    expect(formatBytes(1536)).toBe("1.5 KiB");
    expect(formatNs(1500)).toBe("1.5 µs");
    expect(formatNs(2.5e6)).toBe("2.5 ms");
    expect(formatNs(3e9)).toBe("3.00 s");
  });
});
