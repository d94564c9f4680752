import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  LatencyModelError,
  parseDeviceProfile,
  parseDeviceProfileText,
  simulatedDevice,
  type DeviceProfile,
  type LatencyCurve,
} from "../src/index.js";
import { expectError } from "./expect-error.js";
import { changed, full } from "./full-profile.js";
import { check } from "./property.js";

const schemaUrl = new URL("../schema/device-profile.schema.json", import.meta.url);
const schema = JSON.parse(readFileSync(schemaUrl, "utf8")) as object;
// Union types are meant: a fact about a device is a string, a number or a boolean.
const matchesSchema = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(schema);

function accepts(json: unknown): boolean {
  try {
    parseDeviceProfile(json);
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(LatencyModelError);
    return false;
  }
}

const VALID: [string, unknown][] = [
  ["every field", full],
  ["a single sample", changed("table", { sizesBytes: [16384], latencyNs: [1] })],
  ["saturation between samples", changed("saturationBytes", 5000)],
  ["saturation at the first sample", changed("saturationBytes", 4096)],
  ["a time with an offset", changed("createdAt", "2025-11-20T16:00:00+05:30")],
  ["an unknown field", changed("colour", "blue")],
  ["an unknown field of reader", changed("reader.queue", null)],
  ["no facts", changed("device", {})],
  ["a prototype-like fact", changed("device", JSON.parse('{"__proto__": "x", "toString": 1}'))],
  ["no samples kept", changed("samples", [])],
  ["integers as 1.0", changed("table.sizesBytes", [4096.0, 8192.0, 16384.0])],
  ...[
    ...["createdAt", "reader", "device", "noise", "samples", "reader.tuning", "backends", "queue"],
    ...["batchModel", "validation", "rounds", "key", "probeVersion", "backends.0.samples"],
  ].map((field): [string, unknown] => [`no ${field}`, changed(field, undefined)]),
  ["an unknown field of tuning", changed("reader.tuning.colour", 1)],
  ["a submit batch as long as the queue", changed("reader.tuning.submitBatch", 64)],
  ["the deepest queue", changed("reader.tuning.queueDepth", 1024)],
  ["no backend measured", changed("backends", [])],
  ["a queue sweep that is not monotone", changed("queue.0.latencyNs", [1, 3, 2])],
  ["a batch model of the plain sum", changed("batchModel.laneWeight", 0)],
  ["no stragglers", changed("batchModel.stragglerNs", undefined)],
  ["no masks", changed("validation.masks", [])],
  ["a perfect fit", changed("validation.batch", { r2: 1, mape: 0 })],
  ["an even round", changed("rounds.0.deviation", 0)],
];

/** Refused by schema and validator alike; the path is the validator's. */
const INVALID: [string, unknown, string][] = [
  ["null", null, "profile"],
  ["a number", 7, "profile"],
  ["a string", "profile", "profile"],
  ["an array", [full], "profile"],
  ["an empty object", {}, "schemaVersion"],
  ["version 2", changed("schemaVersion", 2), "schemaVersion"],
  ["version '1'", changed("schemaVersion", "1"), "schemaVersion"],
  ["version null", changed("schemaVersion", null), "schemaVersion"],
  ...["schemaVersion", "name", "origin", "source", "table", "saturationBytes", "tailNsPerByte"].map(
    (field): [string, unknown, string] => [`no ${field}`, changed(field, undefined), field],
  ),
  ["an empty name", changed("name", ""), "name"],
  ["a numeric name", changed("name", 1), "name"],
  ["an unknown origin", changed("origin", "guessed"), "origin"],
  ["origin from the prototype", changed("origin", "toString"), "origin"],
  ["an empty source", changed("source", ""), "source"],
  ["a date without a time", changed("createdAt", "2025-11-20"), "createdAt"],
  ["month 13", changed("createdAt", "2025-13-20T16:00:00Z"), "createdAt"],
  ["a time without a zone", changed("createdAt", "2025-11-20T16:00:00"), "createdAt"],
  ["a numeric time", changed("createdAt", 1763654400), "createdAt"],
  ["reader null", changed("reader", null), "reader"],
  ["reader an array", changed("reader", []), "reader"],
  ["no backend", changed("reader.backend", undefined), "reader.backend"],
  ["directIo as text", changed("reader.directIo", "yes"), "reader.directIo"],
  ["no threads", changed("reader.threads", 0), "reader.threads"],
  ["half a thread", changed("reader.threads", 1.5), "reader.threads"],
  ["no alignment", changed("reader.alignmentBytes", 0), "reader.alignmentBytes"],
  ["device null", changed("device", null), "device"],
  ["a numeric model", changed("device.model", 990), "device.model"],
  ["a fact of null", changed("device.note", null), "device.note"],
  ["a fact of an object", changed("device.note", {}), "device.note"],
  ["table null", changed("table", null), "table"],
  ["table an array", changed("table", [[4096, 9000]]), "table"],
  ["no sizes", changed("table.sizesBytes", undefined), "table.sizesBytes"],
  ["no latencies", changed("table.latencyNs", undefined), "table.latencyNs"],
  ["empty sizes", changed("table.sizesBytes", []), "table.sizesBytes"],
  ["empty latencies", changed("table.latencyNs", []), "table.latencyNs"],
  ["sizes as an object", changed("table.sizesBytes", { 0: 1 }), "table.sizesBytes"],
  ["a zero size", changed("table.sizesBytes", [0, 1, 16384]), "table.sizesBytes[0]"],
  ["a negative size", changed("table.sizesBytes", [-1, 1, 16384]), "table.sizesBytes[0]"],
  ["a fractional size", changed("table.sizesBytes", [1, 2.5, 16384]), "table.sizesBytes[1]"],
  ["a size as text", changed("table.sizesBytes", [1, "2", 16384]), "table.sizesBytes[1]"],
  ["a size of null", changed("table.sizesBytes", [1, 2, null]), "table.sizesBytes[2]"],
  ["a size past 2^53", changed("table.sizesBytes", [1, 2, 2 ** 60]), "table.sizesBytes[2]"],
  ["a NaN size", changed("table.sizesBytes", [1, NaN, 16384]), "table.sizesBytes[1]"],
  ["a zero latency", changed("table.latencyNs", [0, 1, 2]), "table.latencyNs[0]"],
  ["a negative latency", changed("table.latencyNs", [-1, 1, 2]), "table.latencyNs[0]"],
  ["a NaN latency", changed("table.latencyNs", [1, NaN, 2]), "table.latencyNs[1]"],
  ["an infinite latency", changed("table.latencyNs", [1, 2, Infinity]), "table.latencyNs[2]"],
  ["a latency as text", changed("table.latencyNs", [1, 2, "3"]), "table.latencyNs[2]"],
  ["saturation 0", changed("saturationBytes", 0), "saturationBytes"],
  ["a fractional saturation", changed("saturationBytes", 4096.5), "saturationBytes"],
  ["saturation as text", changed("saturationBytes", "16384"), "saturationBytes"],
  ["a tail of 0", changed("tailNsPerByte", 0), "tailNsPerByte"],
  ["a negative tail", changed("tailNsPerByte", -0.1), "tailNsPerByte"],
  ["a NaN tail", changed("tailNsPerByte", NaN), "tailNsPerByte"],
  ["a tail of null", changed("tailNsPerByte", null), "tailNsPerByte"],
  ["noise an array", changed("noise", [0.1]), "noise"],
  ["noise as text", changed("noise.relativeSpread", "2 %"), "noise.relativeSpread"],
  ["samples an object", changed("samples", {}), "samples"],
  ["a sample of null", changed("samples", [null]), "samples[0]"],
  ["a sample without a size", changed("samples", [{ latencyNs: [1] }]), "samples[0].sizeBytes"],
  [
    "a sample without rounds",
    changed("samples", [{ sizeBytes: 1, latencyNs: [] }]),
    "samples[0].latencyNs",
  ],
  [
    "a sample with a bad round",
    changed("samples", [full.samples[0], { sizeBytes: 1, latencyNs: [1, 0] }]),
    "samples[1].latencyNs[1]",
  ],
];

/** Further fields that both refuse: the path alone says what is wrong. */
const INVALID_EVIDENCE: [string, unknown][] = [
  ["reader.tuning", null],
  ["reader.tuning", []],
  ["reader.tuning.backend", "threads"],
  ...["queueDepth", "threads", "maxBytesInFlight", "submitBatch", "maxRequestBytes"].flatMap(
    (field): [string, unknown][] => [
      [`reader.tuning.${field}`, undefined],
      [`reader.tuning.${field}`, 0],
      [`reader.tuning.${field}`, 1.5],
      [`reader.tuning.${field}`, "8"],
    ],
  ),
  ["reader.tuning.queueDepth", 1025],
  ["reader.tuning.threads", 65],
  ["reader.tuning.submitBatch", 1025],
  ["reader.tuning.readThroughBytes", undefined],
  ["reader.tuning.readThroughBytes", -1],
  ["backends", {}],
  ["backends.0", null],
  ["backends.0.name", ""],
  ["backends.0.table", undefined],
  ["backends.0.table.sizesBytes.1", 0],
  ["backends.0.table.latencyNs", []],
  ["backends.0.samples.0.latencyNs.0", -1],
  ["queue", "deep"],
  ["queue.0.backend", 1],
  ["queue.0.sizeBytes", 0],
  ["queue.0.depths", []],
  ["queue.0.depths.0", 0],
  ["queue.0.depths.2", 1025],
  ["queue.0.latencyNs", undefined],
  ["queue.0.latencyNs.1", 0],
  ["batchModel", null],
  ["batchModel.lanes", 0],
  ["batchModel.lanes", 257],
  ["batchModel.lanes", 2.5],
  ...["fixedNs", "sumWeight", "laneWeight", "perRequestNs"].flatMap(
    (field): [string, unknown][] => [
      [`batchModel.${field}`, undefined],
      [`batchModel.${field}`, -0.1],
      [`batchModel.${field}`, NaN],
      [`batchModel.${field}`, "1"],
    ],
  ),
  ["batchModel.stragglerNs", -1],
  ["batchModel.stragglerNs", "1"],
  ["batchModel.unloaded", undefined],
  ["batchModel.unloaded.sizesBytes", undefined],
  ["batchModel.readThroughBytes", 0.5],
  ["batchModel.maxRequestBytes", 0],
  ["validation", []],
  ["validation.masks", undefined],
  ["validation.masks.0", 1],
  ["validation.masks.0.rowBytes", 0],
  ["validation.masks.0.kind", "chosen"],
  ["validation.masks.0.chunks", 0],
  ["validation.masks.0.bytes", -1],
  ["validation.masks.0.measuredNs", 0],
  ["validation.masks.0.sumNs", null],
  ["validation.masks.0.batchNs", Infinity],
  ["validation.sum", undefined],
  ["validation.batch.r2", 1.01],
  ["validation.batch.r2", "0.99"],
  ["validation.batch.mape", -0.01],
  ["rounds", {}],
  ["rounds.0", []],
  ["rounds.0.deviation", -1],
  ["rounds.0.flagged", 0],
  ["rounds.0.rejected", undefined],
  ["key", ""],
  ["key", 7],
  ["probeVersion", 0],
  ["probeVersion", "2"],
];

/** What a JSON schema cannot say: accepted by it, refused by the validator. Listed in the schema too. */
const BEYOND_SCHEMA: [string, unknown, string][] = [
  ["unsorted sizes", changed("table.sizesBytes", [8192, 4096, 16384]), "table.sizesBytes[1]"],
  ["repeated sizes", changed("table.sizesBytes", [4096, 4096, 16384]), "table.sizesBytes[1]"],
  ["decreasing latencies", changed("table.latencyNs", [3, 2, 4]), "table.latencyNs[1]"],
  ["fewer latencies than sizes", changed("table.latencyNs", [1, 2]), "table.latencyNs"],
  ["more latencies than sizes", changed("table.latencyNs", [1, 2, 3, 4]), "table.latencyNs"],
  ["saturation below the samples", changed("saturationBytes", 4095), "saturationBytes"],
  ["saturation above the samples", changed("saturationBytes", 16385), "saturationBytes"],
  [
    "a submit batch longer than the queue",
    changed("reader.tuning.submitBatch", 65),
    "reader.tuning.submitBatch",
  ],
  [
    "unsorted sizes of a backend",
    changed("backends.0.table.sizesBytes", [2, 1]),
    "backends[0].table.sizesBytes[1]",
  ],
  ["repeated depths", changed("queue.0.depths", [1, 4, 4]), "queue[0].depths[2]"],
  ["fewer times than depths", changed("queue.0.latencyNs", [1, 2]), "queue[0].latencyNs"],
  [
    "decreasing unloaded times",
    changed("batchModel.unloaded.latencyNs", [2, 1]),
    "batchModel.unloaded.latencyNs[1]",
  ],
];

describe("device profile", () => {
  test.each(VALID)("accepted by schema and validator: %s", (_, json) => {
    expect(matchesSchema(json), JSON.stringify(matchesSchema.errors)).toBe(true);
    expect(accepts(json)).toBe(true);
  });

  test.each(INVALID)("refused by schema and validator: %s", (_, json, path) => {
    expect(matchesSchema(json)).toBe(false);
    expectError(() => parseDeviceProfile(json), "INVALID_PROFILE", path);
  });

  test.each(INVALID_EVIDENCE)("refused by schema and validator: %s = %j", (path, value) => {
    const json = changed(path, value);
    expect(matchesSchema(json)).toBe(false);
    // In error messages, indices are in brackets.
    const shown = path.replaceAll(/\.(\d+)/g, "[$1]");
    expectError(() => parseDeviceProfile(json), "INVALID_PROFILE", shown);
  });

  test.each(BEYOND_SCHEMA)("refused by the validator alone: %s", (_, json, path) => {
    expect(matchesSchema(json)).toBe(true);
    expectError(() => parseDeviceProfile(json), "INVALID_PROFILE", path);
  });

  test("schema and validator agree on any field replaced by anything", () => {
    const paths = leafPaths(full);
    const values = fc.oneof(
      fc.jsonValue({ maxDepth: 2 }),
      fc.constantFrom<unknown>(undefined, 0, 1, -1, 1.5, 2 ** 53, "", [], {}, [1], [4096, 8192]),
    );
    check(
      fc.property(fc.constantFrom(...paths), values, (path, value) => {
        // An array's element that is removed leaves a hole, which JSON cannot express.
        fc.pre(value !== undefined || !/\.\d+$/.test(path));
        const json = changed(path, value);
        const bySchema = matchesSchema(json);
        const byValidator = accepts(json);
        if (bySchema === byValidator) return;
        expect(bySchema).toBe(true);
        expectError(() => parseDeviceProfile(json), "INVALID_PROFILE", crossFieldPath(json));
      }),
      1500,
    );
  });

  test("schema and validator agree on arbitrary JSON", () => {
    check(
      fc.property(fc.jsonValue(), (json) => {
        expect(accepts(json)).toBe(matchesSchema(json));
      }),
    );
  });

  test("the result is a deep copy without unknown fields", () => {
    const source = structuredClone(full) as unknown as { table: { sizesBytes: number[] } };
    const profile = parseDeviceProfile({ ...source, colour: "blue" });
    expect(profile).toEqual(full);
    source.table.sizesBytes[0] = 1;
    expect(profile.table.sizesBytes[0]).toBe(4096);
  });

  test("absent optional fields stay absent", () => {
    const bare: DeviceProfile = {
      schemaVersion: 1,
      name: "n",
      origin: "modelled",
      source: "s",
      table: { sizesBytes: [1], latencyNs: [1] },
      saturationBytes: 1,
      tailNsPerByte: 1,
    };
    expect(Object.keys(parseDeviceProfile(bare)).sort()).toEqual(Object.keys(bare).sort());
    const undefinedFields = { ...bare, createdAt: undefined, reader: undefined };
    expect(parseDeviceProfile(undefinedFields)).toEqual(bare);
  });

  test("inherited fields do not count, and a polluting fact pollutes nothing", () => {
    expectError(() => parseDeviceProfile(Object.create(full)), "INVALID_PROFILE", "schemaVersion");
    parseDeviceProfile(changed("device", JSON.parse('{"__proto__": "x"}')));
    expect(({} as Record<string, unknown>).x).toBeUndefined();
  });

  test("holes in an array are refused", () => {
    const sizesBytes = [4096, , 16384]; // eslint-disable-line no-sparse-arrays
    expectError(
      () => parseDeviceProfile(changed("table.sizesBytes", sizesBytes)),
      "INVALID_PROFILE",
      "table.sizesBytes[1]",
    );
  });

  test("a table of absurd length is refused before its entries are read", () => {
    const sizesBytes = Array.from({ length: 65_537 }, (_, index) => index + 1);
    const json = changed("table.sizesBytes", sizesBytes);
    expect(matchesSchema(json)).toBe(false);
    expectError(() => parseDeviceProfile(json), "INVALID_PROFILE", "table.sizesBytes");
  });

  test("messages say what to do and quote little", () => {
    expect(() => parseDeviceProfile(changed("schemaVersion", 2))).toThrow(/another version/);
    expect(() => parseDeviceProfile(changed("tailNsPerByte", -1))).toThrow(/profile the device/);
    expect(() => parseDeviceProfile(changed("table.latencyNs", [3, 2, 4]))).toThrow(
      /monotoneLatencyNs/,
    );
    const long = changed("origin", "x".repeat(10_000));
    expect(() => parseDeviceProfile(long)).toThrow(/^.{1,400}$/);
  });
});

describe("profile text", () => {
  test("of a valid document is parsed", () => {
    const profile = simulatedDevice("orin-nano");
    expect(parseDeviceProfileText(JSON.stringify(profile))).toEqual(profile);
  });

  test.each(["", "{", "not json", '{"schemaVersion": 1,}', "\u0000\u0001"])(
    "%j is a typed error, not a SyntaxError",
    (text) => {
      expectError(() => parseDeviceProfileText(text), "INVALID_PROFILE", "profile");
      expect(() => parseDeviceProfileText(text)).toThrow(/profile the device again/);
    },
  );

  test("of a valid document with a wrong field names the field", () => {
    const text = JSON.stringify(changed("name", 5));
    expectError(() => parseDeviceProfileText(text), "INVALID_PROFILE", "name");
  });
});

/** Dotted paths of all fields and elements of a document. */
function leafPaths(value: unknown, prefix = ""): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, child]) => {
    const path = prefix === "" ? key : `${prefix}.${key}`;
    return [path, ...leafPaths(child, path)];
  });
}

/** The first rule beyond the schema that a document breaks, restated independently of the validator. */
function crossFieldPath(json: unknown): string {
  const { reader, backends, queue, batchModel, table, saturationBytes } = json as DeviceProfile;
  const tuning = reader?.tuning;
  const broken = [
    tuning !== undefined && tuning.submitBatch > tuning.queueDepth && "reader.tuning.submitBatch",
    ...(backends ?? []).map((backend, i) => brokenCurve(backend.table, `backends[${i}].table`)),
    ...(queue ?? []).map(
      ({ depths, latencyNs }, i) =>
        (depths.length !== latencyNs.length && `queue[${i}].latencyNs`) ||
        brokenOrder(depths, `queue[${i}].depths`, (a, b) => a < b),
    ),
    batchModel !== undefined && brokenCurve(batchModel.unloaded, "batchModel.unloaded"),
    brokenCurve(table, "table"),
    (saturationBytes < table.sizesBytes[0] || saturationBytes > table.sizesBytes.at(-1)!) &&
      "saturationBytes",
  ];
  return broken.find((path) => path !== false) || "no rule is broken";
}

function brokenCurve({ sizesBytes, latencyNs }: LatencyCurve, path: string): string | false {
  if (sizesBytes.length !== latencyNs.length) return `${path}.latencyNs`;
  return (
    brokenOrder(sizesBytes, `${path}.sizesBytes`, (a, b) => a < b) ||
    brokenOrder(latencyNs, `${path}.latencyNs`, (a, b) => a <= b)
  );
}

function brokenOrder(
  values: readonly number[],
  path: string,
  inOrder: (a: number, b: number) => boolean,
): string | false {
  const at = values.findIndex((value, i) => i > 0 && !inOrder(values[i - 1], value));
  return at > 0 && `${path}[${at}]`;
}
