import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VlmExecutorError } from "../src/errors.js";
import type { VlmExecutorErrorCode } from "../src/errors.js";
import {
  ChatTemplate,
  decodeImage,
  expandPlaceholders,
  loadChatTemplate,
  loadProcessorConfig,
  loadTokenizer,
  prepareImages,
  prepareVideo,
  renderChat,
} from "../src/inputs/index.js";
import type { ProcessorConfig } from "../src/inputs/index.js";
import { modelPath, picturePath } from "./support/goldens.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "inputs-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function put(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

async function errorOf(action: () => unknown): Promise<VlmExecutorError> {
  try {
    await action();
  } catch (error) {
    expect(error).toBeInstanceOf(VlmExecutorError);
    return error as VlmExecutorError;
  }
  throw new Error("nothing was thrown");
}

const codeOf = async (action: () => unknown): Promise<VlmExecutorErrorCode> =>
  (await errorOf(action)).code;

const CRC_TABLE = Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

function pngChunk(kind: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(kind, "latin1"), data]);
  const crc = body.reduce((c, byte) => CRC_TABLE[(c ^ byte) & 255] ^ (c >>> 8), 0xffffffff);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(data.length);
  frame.writeUInt32BE((crc ^ 0xffffffff) >>> 0, 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}

/** A PNG that claims to be `width` x `height` and holds next to nothing. */
function pngBomb(width: number, height: number): Buffer {
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0]);
  header.writeUInt32BE(width);
  header.writeUInt32BE(height, 4);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const data = deflateSync(Buffer.alloc(1000));
  return Buffer.concat([
    signature,
    pngChunk("IHDR", header),
    pngChunk("IDAT", data),
    pngChunk("IEND", Buffer.alloc(0)),
  ]);
}

describe("pictures that cannot be used", () => {
  it("names a missing file", async () => {
    const error = await errorOf(() => decodeImage(join(folder, "nowhere.png")));
    expect(error).toMatchObject({ code: "FILE_NOT_FOUND", path: join(folder, "nowhere.png") });
  });

  it("refuses a directory, an empty file and empty bytes", async () => {
    expect(await codeOf(() => decodeImage(folder))).toBe("NOT_AN_IMAGE");
    const empty = await put("empty.jpg", "");
    expect(await codeOf(() => decodeImage(empty))).toBe("EMPTY_FILE");
    expect(await codeOf(() => decodeImage(new Uint8Array()))).toBe("EMPTY_FILE");
  });

  it.each([
    ["text", "this is not a picture"],
    ["JSON", "{}"],
    [
      "an SVG",
      '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
    ],
    ["a PDF", "%PDF-1.4\n1 0 obj\n<<>>\nendobj\n"],
    ["half a signature", "\x89PN"],
  ])("refuses %s", async (_, content) => {
    const path = await put("not-a-picture.png", content);
    expect(await codeOf(() => decodeImage(path))).toBe("NOT_AN_IMAGE");
  });

  it("refuses a gigantic picture by its header", async () => {
    const path = await put("bomb.png", pngBomb(100_000, 90_000));
    const error = await errorOf(() => decodeImage(path));
    expect(error).toMatchObject({ code: "IMAGE_TOO_LARGE", path, got: 9_000_000_000 });
  });

  it("refuses what is over the caller's limit, decoded or not", async () => {
    const path = picturePath("square-40.png");
    expect(await codeOf(() => decodeImage(path, { maxPixels: 1599 }))).toBe("IMAGE_TOO_LARGE");
    expect((await decodeImage(path, { maxPixels: 1600 })).width).toBe(40);
    const pixels = { width: 40, height: 40, rgb: new Uint8Array(4800) };
    expect(await codeOf(() => decodeImage(pixels, { maxPixels: 1599 }))).toBe("IMAGE_TOO_LARGE");
  });

  it("refuses a gigantic file before reading it", async () => {
    const path = await put("sparse.tiff", "II*");
    await truncate(path, 2 ** 33);
    expect(await codeOf(() => decodeImage(path))).toBe("IMAGE_TOO_LARGE");
  });

  it.each(["wide-150x50.png", "large-320x231.jpg", "photo-64x48.webp"])(
    "refuses %s cut in the middle",
    async (file) => {
      const whole = await readFile(picturePath(file));
      const path = await put(file, whole.subarray(0, whole.length / 2));
      const error = await errorOf(() => decodeImage(path));
      expect(["IMAGE_DAMAGED", "NOT_AN_IMAGE"]).toContain(error.code);
      expect(error.path).toBe(path);
    },
  );

  it("gives a picture or a typed error for any damage, never anything else", async () => {
    const whole = await readFile(picturePath("progressive-97x61.jpg"));
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), async (offset, value) => {
        const bytes = Uint8Array.from(whole);
        bytes[offset] = value;
        const result = await decodeImage(bytes, { maxPixels: 1e6 }).catch(
          (error: unknown) => error,
        );
        if (result instanceof Error) expect(result).toBeInstanceOf(VlmExecutorError);
        else expect(result).toHaveProperty("rgb");
      }),
      { numRuns: 100 },
    );
  });

  it.each([
    { width: 2, height: 2, rgb: new Uint8Array(11) },
    { width: 0, height: 2, rgb: new Uint8Array(0) },
    { width: 1.5, height: 2, rgb: new Uint8Array(9) },
  ])("refuses decoded pixels of a wrong shape %#", async (pixels) => {
    expect(await codeOf(() => decodeImage(pixels))).toBe("NOT_AN_IMAGE");
  });

  it("scales 16-bit grey to 8 bits", async () => {
    const { rgb } = await decodeImage(picturePath("gray16-44x30.png"));
    const expected = Array.from({ length: 44 * 30 }, (_, i) => Math.trunc((i * 65535) / 1319) >> 8);
    const worst = expected.reduce(
      (most, value, i) => Math.max(most, Math.abs(value - rgb[i * 3])),
      0,
    );
    expect(worst).toBeLessThanOrEqual(1);
    expect(rgb[300]).toBe(rgb[302]);
  });
});

describe("prompts and pictures that do not fit", () => {
  const tokens = { imageToken: "<image>", videoToken: "<video>" };
  const expand = (prompt: string, images: number[], videos: number[] = []) =>
    expandPlaceholders(prompt, tokens, { images, videos });

  it.each([
    ["a placeholder without a picture", "<image> what?", [], [], "IMAGE_REQUIRED"],
    ["a placeholder without a clip", "<video>", [], [], "IMAGE_REQUIRED"],
    ["a picture without a placeholder", "what?", [3], [], "PLACEHOLDER_MISMATCH"],
    ["more pictures than placeholders", "<image>", [3, 4], [], "PLACEHOLDER_MISMATCH"],
    ["fewer pictures than placeholders", "<image><image>", [3], [], "PLACEHOLDER_MISMATCH"],
    ["a picture for a clip", "<video>", [3], [], "PLACEHOLDER_MISMATCH"],
  ] as const)("names %s", async (_, prompt, images, videos, code) => {
    expect(await codeOf(() => expand(prompt, [...images], [...videos]))).toBe(code);
  });

  it("repeats each placeholder in order", () => {
    expect(expand("a<image>b<video>c<image>", [2, 1], [3])).toBe(
      "a<image><image>b<video><video><video>c<image>",
    );
    expect(expand("plain $& text", [])).toBe("plain $& text");
  });

  it("needs a frame, and obeys a signal", async () => {
    const pixels = {
      height: 8,
      width: 8,
      filter: "bicubic",
      rescaleFactor: 1,
      mean: [0, 0, 0],
    } as const;
    const config: ProcessorConfig = { image: pixels, video: pixels, ...tokens };
    const model = {} as Parameters<typeof prepareVideo>[2];
    expect(await codeOf(() => prepareVideo([], config, model))).toBe("INVALID_OPTION");
    const signal = AbortSignal.abort("enough");
    const path = picturePath("square-40.png");
    expect(await codeOf(() => prepareImages([path], config, model, { signal }))).toBe("ABORTED");
    expect(await codeOf(() => prepareVideo([path], config, model, { signal }))).toBe("ABORTED");
  });
});

describe("checkpoint files that cannot be used", () => {
  it("names a missing and a broken tokenizer", async () => {
    expect(await codeOf(() => loadTokenizer(folder))).toBe("TOKENIZER_MISSING");
    await put("tokenizer.json", "{}");
    expect(await codeOf(() => loadTokenizer(folder))).toBe("TOKENIZER_INVALID");
    await put("tokenizer.json", "{");
    expect(await codeOf(() => loadTokenizer(folder))).toBe("INVALID_CONFIG");
  });

  it("knows a checkpoint without a processor or a template", async () => {
    expect(await loadProcessorConfig(modelPath("qwen2-tied-f32"))).toBeUndefined();
    expect(await loadChatTemplate(folder)).toBeUndefined();
    expect(await codeOf(() => renderChat(undefined, []))).toBe("CHAT_TEMPLATE_MISSING");
  });

  it.each([
    [{ do_center_crop: true }, "UNSUPPORTED_CONFIG"],
    [{ do_resize: false }, "UNSUPPORTED_CONFIG"],
    [{ resample: 1 }, "UNSUPPORTED_CONFIG"],
    [{ size: { height: 10, width: 20 } }, "UNSUPPORTED_CONFIG"],
    [{ size: { height: "10" } }, "INVALID_CONFIG"],
    [{ image_mean: [1, 2] }, "INVALID_CONFIG"],
    [{ image_std: [0, 1, 1] }, "INVALID_CONFIG"],
    [{ image_grid_pinpoints: [[1]] }, "INVALID_CONFIG"],
    [{ rescale_factor: -1 }, "INVALID_CONFIG"],
    [[], "INVALID_CONFIG"],
  ])("refuses the processor %j", async (json, code) => {
    await put("preprocessor_config.json", JSON.stringify(json));
    expect(await codeOf(() => loadProcessorConfig(folder))).toBe(code);
  });

  it("reads sizes in every form", async () => {
    for (const size of [32, { shortest_edge: 32 }, { height: 32, width: 32 }]) {
      await put("preprocessor_config.json", JSON.stringify({ size, image_mean: 0.25 }));
      const config = await loadProcessorConfig(folder);
      expect(config?.image).toMatchObject({ height: 32, width: 32, mean: [0.25, 0.25, 0.25] });
      expect(config?.video).toEqual(config?.image);
    }
  });

  it("names a template that is broken, and one that refuses", async () => {
    expect(await codeOf(() => new ChatTemplate("{% if %}"))).toBe("CHAT_TEMPLATE_FAILED");
    const strict = new ChatTemplate("{{ raise_exception('roles must alternate') }}");
    const error = await errorOf(() => strict.render([]));
    expect(error.code).toBe("CHAT_TEMPLATE_FAILED");
    expect(error.message).toContain("roles must alternate");
  });

  it("takes the default of several templates in tokenizer_config.json", async () => {
    const chat_template = [
      { name: "tool_use", template: "tools" },
      { name: "default", template: "{{ bos_token }}{{ messages[0].content }}" },
    ];
    await put("tokenizer_config.json", JSON.stringify({ chat_template }));
    const template = await loadChatTemplate(folder, { bos_token: "<s>" });
    expect(renderChat(template, [{ role: "user", content: "hi" }])).toBe("<s>hi");
  });
});
