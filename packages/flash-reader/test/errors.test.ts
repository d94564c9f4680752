import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FlashReader } from "../src/index.js";
import { rejection, temporaryDirectory, toRanges, writeNoise } from "./support.js";

const directory = temporaryDirectory();
const path = join(directory, "data.bin");
writeNoise(path, 1_000_003);

describe("opening", () => {
  it("a missing file names the path and the errno", async () => {
    const missing = join(directory, "missing.bin");
    const error = await rejection(FlashReader.open(missing));
    expect(error).toMatchObject({ code: "OPEN_FAILED", path: missing, errno: "ENOENT" });
    expect(error.message).toContain(missing);
  });

  it("directories and devices are not files", async () => {
    mkdirSync(join(directory, "folder"));
    expect(await rejection(FlashReader.open(join(directory, "folder")))).toMatchObject({
      code: "NOT_A_FILE",
    });
    expect(await rejection(FlashReader.open("/dev/zero"))).toMatchObject({ code: "NOT_A_FILE" });
  });

  it("an empty file opens and has nothing to read", async () => {
    const empty = join(directory, "empty.bin");
    writeFileSync(empty, "");
    const reader = await FlashReader.open(empty);
    expect(reader.sizeBytes).toBe(0);
    expect(await rejection(reader.read(toRanges([[0, 1]])))).toMatchObject({
      code: "OUT_OF_RANGE",
    });
    await reader.close();
  });

  it.each([
    ["an empty path", "", {}],
    ["a path with NUL", "a\0b", {}],
    ["a path that is no string", 7 as unknown as string, {}],
    ["an unknown mode", path, { directIo: "maybe" as never }],
    ["an inherited mode", path, { directIo: "toString" as never }],
    ["an unknown backend", path, { backend: "threads" as never }],
    ["an inherited backend", path, { backend: "toString" as never }],
  ])("%s is an argument error", async (_, given, options) => {
    expect(await rejection(FlashReader.open(given, options))).toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });
});
