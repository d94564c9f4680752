import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it, test } from "vitest";
import {
  allocateSparsity,
  ChunkSelectorError,
  createCalibration,
  parseAllocationFile,
  parseAllocationFileText,
  parseCalibration,
  parseCalibrationText,
  sparsityCurves,
  tealAllocations,
  weightOf,
} from "../src/index.js";
import { expectError } from "./expect-error.js";

const readSchema = (name: string): object =>
  JSON.parse(readFileSync(new URL(`../schema/${name}`, import.meta.url), "utf8")) as object;
const matchesCalibration = new Ajv2020().compile(readSchema("calibration.schema.json"));
const matchesAllocation = new Ajv2020().compile(readSchema("sparsity-allocation.schema.json"));

const MODEL = { identity: "0123456789abcdef".repeat(4), type: "qwen2", bundled: true };
const POINTS = [
  { sparsity: 0.25, lostShare: 0.1, error: 0.02 },
  { sparsity: 0.5, lostShare: 0.3, error: 0.06 },
  { sparsity: 1, lostShare: 1, error: 0.9 },
];
const CALIBRATION = createCalibration({
  model: MODEL,
  source: { prompts: 2, passes: 4, measuredPasses: 2, tokens: 40 },
  bundles: [
    {
      name: "layers.0.attn_in",
      layer: 0,
      rows: 3,
      rowBytes: 8,
      samples: 4,
      importance: { total: 2, cv: 0.5, quantiles: { probabilities: [0.5], values: [0.9] } },
      activeCounts: [4, 2, 0],
      weight: weightOf(POINTS),
      weightPerImportance: weightOf(POINTS) / 2,
      points: POINTS,
    },
  ],
});
const ALLOCATION = tealAllocations(CALIBRATION, [0.5, 0.25, 0.5]);

/** A deep copy with one field set, or removed by `undefined`. */
function changed(source: unknown, path: string, value: unknown): unknown {
  const copy = JSON.parse(JSON.stringify(source)) as Record<string, unknown>;
  const keys = path.split(/[.[\]]+/).filter((key) => key !== "");
  const last = keys.pop()!;
  let at: Record<string, unknown> = copy;
  for (const key of keys) at = at[key] as Record<string, unknown>;
  at[last] = value;
  return JSON.parse(JSON.stringify(copy));
}

describe("the weight of lost importance", () => {
  it("is the slope through the origin", () => {
    // (0.1 * 0.02 + 0.3 * 0.06 + 0.9) / (0.1^2 + 0.3^2 + 1)
    expect(weightOf(POINTS)).toBeCloseTo(0.92 / 1.1, 12);
    expect(weightOf(POINTS.slice(0, 2))).toBeCloseTo(0.2, 12);
  });

  it("is above 0 even where nothing was felt or lost", () => {
    expect(weightOf([{ sparsity: 0.5, lostShare: 0.4, error: 0 }])).toBeGreaterThan(0);
    expect(weightOf([{ sparsity: 0.5, lostShare: 0, error: 0 }])).toBeGreaterThan(0);
  });
});

describe("files", () => {
  it("come back as they were written, and match their schemas", () => {
    expect(parseCalibrationText(JSON.stringify(CALIBRATION))).toEqual(CALIBRATION);
    expect(parseAllocationFileText(JSON.stringify(ALLOCATION))).toEqual(ALLOCATION);
    expect(matchesCalibration(CALIBRATION)).toBe(true);
    expect(matchesAllocation(ALLOCATION)).toBe(true);
  });

  it("are what allocation starts from", () => {
    const { sparsities } = allocateSparsity(sparsityCurves(CALIBRATION), 0.5);
    expect(sparsities["layers.0.attn_in"]).toBeCloseTo(0.5, 9);
    expect(ALLOCATION.allocations).toEqual([
      { sparsity: 0.25, error: 0.02, sparsities: { "layers.0.attn_in": 0.25 } },
      { sparsity: 0.5, error: 0.06, sparsities: { "layers.0.attn_in": 0.5 } },
    ]);
    expect(ALLOCATION.model).toEqual(MODEL);
  });

  const WRONG: [path: string, value: unknown][] = [
    ["kind", "neuron-chunking/sparsity-allocation"],
    ["schemaVersion", 2],
    ["model", undefined],
    ["model.identity", "abc"],
    ["model.type", ""],
    ["model.bundled", "yes"],
    ["source.prompts", 0],
    ["source.tokens", 1.5],
    ["bundles", []],
    ["bundles", "none"],
    ["bundles[0]", 7],
    ["bundles[0].name", ""],
    ["bundles[0].layer", -1],
    ["bundles[0].rows", 0],
    ["bundles[0].rowBytes", "8"],
    ["bundles[0].activeCounts[1]", -1],
    ["bundles[0].importance.total", -1],
    ["bundles[0].importance.quantiles.values", undefined],
    ["bundles[0].weight", 0],
    ["bundles[0].weight", null],
    ["bundles[0].points", []],
    ["bundles[0].points[0].lostShare", 1.01],
    ["bundles[0].points[0].error", -0.1],
    ["bundles[0].points[0].sparsity", 0],
  ];
  test.each(WRONG)("a calibration is refused by schema and parser: %s = %j", (path, value) => {
    const json = changed(CALIBRATION, path, value);
    expect(matchesCalibration(json)).toBe(false);
    expectError(() => parseCalibration(json), "INVALID_REQUEST", `calibration.${path}`);
  });

  const BEYOND_SCHEMA: [path: string, value: unknown, named: string][] = [
    ["bundles[0].activeCounts", [1, 2], "bundles[0].activeCounts"],
    ["bundles[0].activeCounts[0]", 5, "bundles[0].activeCounts[0]"],
    ["bundles[0].points[1].sparsity", 0.2, "bundles[0].points[1].sparsity"],
    ["bundles[0].importance.quantiles.values", [1, 2], "bundles[0].importance.quantiles.values"],
  ];
  test.each(BEYOND_SCHEMA)("a calibration is refused by the parser: %s", (path, value, named) => {
    const json = changed(CALIBRATION, path, value);
    expect(matchesCalibration(json)).toBe(true);
    expectError(() => parseCalibration(json), "INVALID_REQUEST", `calibration.${named}`);
  });

  const WRONG_ALLOCATION: [path: string, value: unknown][] = [
    ["kind", "neuron-chunking/calibration"],
    ["method", "guess"],
    ["allocations", []],
    ["allocations[0].sparsity", 2],
    ["allocations[0].error", "none"],
    ["allocations[0].sparsities", [0.5]],
  ];
  test.each(WRONG_ALLOCATION)("an allocation is refused: %s = %j", (path, value) => {
    const json = changed(ALLOCATION, path, value);
    expect(matchesAllocation(json)).toBe(false);
    expectError(() => parseAllocationFile(json), "INVALID_REQUEST", `allocation.${path}`);
  });

  it.each(["", "{", "[]", "null", "7"])("what is no JSON object is refused: %j", (text) => {
    expect(() => parseCalibrationText(text)).toThrow(ChunkSelectorError);
    expect(() => parseAllocationFileText(text)).toThrow(/nchunk calibrate/);
  });
});
