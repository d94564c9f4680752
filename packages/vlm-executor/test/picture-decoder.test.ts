import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterEach, describe, expect, it, vi } from "vitest";
import { decodeImage } from "../src/inputs/index.js";

/** One white pixel. */
const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC",
  "base64",
);

afterEach(() => {
  vi.doUnmock("sharp");
  vi.resetModules();
});

describe("the picture decoder", () => {
  it("is not loaded with the package: models without pictures do without its memory", async () => {
    const script = `
      import { readFileSync } from "node:fs";
      await import("@neuron-chunking/vlm-executor");
      const maps = () => readFileSync("/proc/self/maps", "utf8").includes("vips");
      const before = maps();
      await import("sharp");
      console.log(JSON.stringify([before, maps()]));`;
    const args = ["--input-type=module", "--eval", script];
    const cwd = new URL("..", import.meta.url);
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd });
    expect(JSON.parse(stdout)).toEqual([false, true]);
  });

  it("says so where it cannot be loaded, and what does without it", async () => {
    vi.resetModules();
    vi.doMock("sharp", () => {
      throw new Error("no binary for this platform");
    });
    const inputs = await import("../src/inputs/index.js");
    await expect(inputs.decodeImage(PNG)).rejects.toMatchObject({
      code: "IMAGE_DECODER_UNAVAILABLE",
    });
    const pixels = { width: 1, height: 1, rgb: new Uint8Array(3) };
    expect(await inputs.decodeImage(pixels)).toBe(pixels);
  });

  it("decodes", async () => {
    const { width, height, rgb } = await decodeImage(PNG);
    expect([width, height, ...rgb]).toEqual([1, 1, 255, 255, 255]);
  });
});
