import { cp, readFile, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VlmExecutor } from "../src/index.js";
import { picturePath } from "./support/goldens.js";
import { Images, relativeError } from "./support/images.js";
import { code, collect, greedy, ids } from "./support/sessions.js";

const PROMPT = Array.from({ length: 12 }, (_, i) => 10 + i * 7);
const MORE = [40, 50, 60];

let images: Images;
let text: VlmExecutor;
let seeing: VlmExecutor;
beforeAll(async () => {
  images = await Images.create();
  text = await VlmExecutor.open(await images.get("qwen2-tied-f32"));
  seeing = await VlmExecutor.open(await images.get("llava-tied-f32"));
});
afterAll(async () => {
  await text.close();
  await seeing.close();
  await images.remove();
});

describe("a session", () => {
  it("takes a text in pieces or at once", async () => {
    const whole = text.createSession();
    await whole.appendTokens([...PROMPT, ...MORE]);
    const pieces = text.createSession();
    await pieces.appendTokens(PROMPT);
    await pieces.appendTokens(MORE);
    await pieces.appendTokens([]);
    expect(pieces.length).toBe(whole.length);
    expect(relativeError(pieces.lastLogits!, whole.lastLogits!)).toBeLessThan(1e-5);
    expect(ids(await greedy(pieces, 8))).toEqual(ids(await greedy(whole, 8)));
  });

  it("continues after what it generated", async () => {
    const session = text.createSession();
    await session.appendTokens(PROMPT);
    const first = ids(await greedy(session, 5));
    await session.appendTokens(MORE);
    const whole = text.createSession();
    await whole.appendTokens([...PROMPT, ...first, ...MORE]);
    expect(session.length).toBe(whole.length);
    expect(ids(await greedy(session, 6))).toEqual(ids(await greedy(whole, 6)));
  });

  it("generates in two calls what it generates in one", async () => {
    const [one, two] = [text.createSession(), text.createSession()];
    await one.appendTokens(PROMPT);
    await two.appendTokens(PROMPT);
    const halves = [...(await greedy(two, 4)), ...(await greedy(two, 5))];
    expect(ids(halves)).toEqual(ids(await greedy(one, 9)));
  });

  it("draws the same with the same seed and not with another", async () => {
    const draw = async (seed: number) => {
      const session = text.createSession();
      await session.appendTokens(PROMPT);
      const options = { maxNewTokens: 24, temperature: 1.5, topP: 0.95, stopTokenIds: [], seed };
      return ids(await collect(session.generate(options)));
    };
    expect(await draw(7)).toEqual(await draw(7));
    expect(await draw(7)).not.toEqual(await draw(8));
  });

  it("stops at a stop token, which it gives but does not keep", async () => {
    const session = text.createSession();
    await session.appendTokens(PROMPT);
    const [first, second] = ids(await greedy(session, 2));
    const again = text.createSession();
    await again.appendTokens(PROMPT);
    const stop = second === first ? [first] : [second];
    const tokens = await collect(again.generate({ stopTokenIds: stop }));
    expect(tokens.at(-1)).toMatchObject({ id: stop[0], finishReason: "stop" });
    expect(again.length).toBe(PROMPT.length + tokens.length - 1);
  });

  it("names why it ended, on the last token only", async () => {
    const session = text.createSession();
    await session.appendTokens(PROMPT);
    const tokens = await greedy(session, 3);
    expect(tokens.map(({ finishReason }) => finishReason)).toEqual([
      undefined,
      undefined,
      "length",
    ]);
  });

  it("refuses to continue nothing", async () => {
    expect(await code(greedy(text.createSession(), 1))).toBe("EMPTY_PROMPT");
  });

  it("refuses ids outside the vocabulary and stays usable", async () => {
    const session = text.createSession();
    for (const bad of [-1, text.config.decoder.vocabSize, 2 ** 30]) {
      expect(await code(session.appendTokens([1, bad]))).toBe("INVALID_OPTION");
    }
    expect(session.length).toBe(0);
    await session.appendTokens(PROMPT);
    expect(session.length).toBe(PROMPT.length);
  });

  it.each([
    ["maxNewTokens", { maxNewTokens: 0 }],
    ["maxNewTokens", { maxNewTokens: 1.5 }],
    ["temperature", { temperature: -1 }],
    ["temperature", { temperature: NaN }],
    ["topP", { topP: 0 }],
    ["topP", { topP: 1.1 }],
    ["seed", { seed: 0.5 }],
  ])("refuses a %s that makes no sense", async (name, options) => {
    const session = text.createSession();
    await session.appendTokens(PROMPT);
    await expect(collect(session.generate(options))).rejects.toMatchObject({
      code: "INVALID_OPTION",
      message: expect.stringContaining(name) as string,
    });
  });

  it("refuses a second call while one is under way", async () => {
    const session = text.createSession();
    const first = session.appendTokens(PROMPT);
    expect(await code(session.appendTokens(MORE))).toBe("BUSY");
    await first;
    for await (const token of session.generate({ maxNewTokens: 4 })) {
      void token;
      expect(await code(session.appendTokens(MORE))).toBe("BUSY");
      break;
    }
    await session.appendTokens(MORE);
  });

  it("is closed once closed", async () => {
    const session = text.createSession();
    session.close();
    expect(await code(session.appendTokens(PROMPT))).toBe("CLOSED");
  });

  it("shares the model with others", async () => {
    const expected = text.createSession();
    await expected.appendTokens(PROMPT);
    const alone = ids(await greedy(expected, 6));
    const sessions = [text.createSession(), text.createSession(), text.createSession()];
    const together = await Promise.all(
      sessions.map(async (session) => {
        await session.appendTokens(PROMPT);
        return ids(await greedy(session, 6));
      }),
    );
    for (const got of together) expect(got).toEqual(alone);
  });
});

describe("a full context", () => {
  it("is an error that says how much is needed, and changes nothing", async () => {
    const executor = await VlmExecutor.open(await images.get("qwen2-tied-f32"), {
      contextLength: 16,
    });
    const session = executor.createSession();
    await session.appendTokens(PROMPT);
    await expect(session.appendTokens([1, 2, 3, 4, 5])).rejects.toMatchObject({
      code: "CONTEXT_FULL",
      expected: 17,
      got: 16,
    });
    expect(session.length).toBe(12);
    const tokens = await greedy(session, 100);
    expect(tokens).toHaveLength(4);
    expect(tokens.at(-1)!.finishReason).toBe("context");
    expect(await code(greedy(session, 1))).toBe("CONTEXT_FULL");
    await executor.close();
  });
});

describe("aborting", () => {
  it("leaves the session as it was before the call", async () => {
    const session = text.createSession();
    await session.appendTokens(PROMPT);
    const before = session.lastLogits!;
    // Aborted at many points of the pass; some calls are done by then.
    for (let delay = 0; delay < 12; delay++) {
      const controller = new AbortController();
      const call = session.appendTokens(MORE, { signal: controller.signal });
      setTimeout(() => controller.abort(), delay / 2);
      if ((await code(call)) === "resolved") break;
      expect(session.length).toBe(PROMPT.length);
      expect(session.lastLogits).toEqual(before);
    }
    const fresh = text.createSession();
    await fresh.appendTokens(PROMPT);
    if (session.length > PROMPT.length) await fresh.appendTokens(MORE);
    expect(ids(await greedy(session, 8))).toEqual(ids(await greedy(fresh, 8)));
  });

  it("does nothing when aborted before it began", async () => {
    const session = text.createSession();
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(session.appendTokens(PROMPT, { signal })).rejects.toMatchObject({
      code: "ABORTED",
      cause: { message: "enough" },
    });
    expect(session.length).toBe(0);
    expect(await code(VlmExecutor.open(await images.get("qwen2-tied-f32"), { signal }))).toBe(
      "ABORTED",
    );
  });

  it("keeps the tokens already given when a generation is aborted", async () => {
    const session = text.createSession();
    await session.appendTokens(PROMPT);
    const controller = new AbortController();
    const got: number[] = [];
    const run = async () => {
      for await (const token of session.generate({
        maxNewTokens: 50,
        stopTokenIds: [],
        signal: controller.signal,
      })) {
        got.push(token.id);
        if (got.length === 3) controller.abort();
      }
    };
    expect(await code(run())).toBe("ABORTED");
    expect(got).toHaveLength(3);
    const rest = ids(await greedy(session, 4));
    const whole = text.createSession();
    await whole.appendTokens(PROMPT);
    expect([...got, ...rest]).toEqual(ids(await greedy(whole, 7)));
  });

  it("stops the vision tower", async () => {
    const session = seeing.createSession();
    const controller = new AbortController();
    const call = session.appendImages([picturePath("large-320x231.jpg")], {
      signal: controller.signal,
    });
    controller.abort();
    expect(await code(call)).toBe("ABORTED");
    expect(session.length).toBe(0);
  });
});

describe("a failing read", () => {
  it("names the layer and leaves the session as it was", async () => {
    const intact = await images.get("qwen2-tied-f32");
    const dir = images.path("failing");
    await rm(dir, { recursive: true, force: true });
    await cp(intact, dir, { recursive: true });
    const executor = await VlmExecutor.open(dir);
    const session = executor.createSession();
    await session.appendTokens(PROMPT);
    const { length } = await readFile(join(dir, "flash.safetensors"));
    await truncate(join(dir, "flash.safetensors"), Math.floor(length / 2));
    await expect(session.appendTokens(MORE)).rejects.toMatchObject({
      code: "READ_FAILED",
      path: expect.stringContaining("flash.safetensors") as string,
      layer: expect.any(Number) as number,
      bundle: expect.stringMatching(/^layers\.\d+\./) as string,
    });
    expect(session.length).toBe(PROMPT.length);
    await executor.close();
  });
});

describe("pictures and clips", () => {
  it("give the same piece by piece as in one prompt", async () => {
    const image = picturePath("wide-150x50.png");
    const whole = seeing.createSession();
    await whole.appendPrompt(
      await seeing.prepare({ prompt: "<image>", images: [image], chat: false }),
    );
    const pieces = seeing.createSession();
    await pieces.appendImage(image);
    expect(pieces.length).toBe(whole.length);
    expect(relativeError(pieces.lastLogits!, whole.lastLogits!)).toBeLessThan(1e-5);
  });

  it("append frames one by one", async () => {
    const frames = [0, 1, 2].map((i) => picturePath(`clip-frame${i}.png`));
    const whole = seeing.createSession();
    await whole.appendFrames(frames);
    const pieces = seeing.createSession();
    for (const [i, frame] of frames.entries()) await pieces.appendFrames([frame], { end: i === 2 });
    expect(pieces.length).toBe(whole.length);
    expect(relativeError(pieces.lastLogits!, whole.lastLogits!)).toBeLessThan(1e-5);
    expect(pieces.totals.frames.steps).toBe(3);
    expect(pieces.totals.prefill.steps).toBe(0);
  });

  it("append all frames of a call or none", async () => {
    const good = picturePath("clip-frame0.png");
    const session = seeing.createSession();
    await session.appendTokens(PROMPT);
    const [first] = ids(await greedy(session, 1));
    const { length } = session;
    expect(await code(session.appendFrames([good, picturePath("absent.png")]))).toBe(
      "FILE_NOT_FOUND",
    );
    expect(session.length).toBe(length);
    const whole = seeing.createSession();
    await whole.appendTokens([...PROMPT, first]);
    expect(ids(await greedy(session, 4))).toEqual(ids(await greedy(whole, 4)));
  });

  it("are refused by a text model", async () => {
    const session = text.createSession();
    expect(await code(session.appendImage(picturePath("square-40.png")))).toBe(
      "IMAGES_UNSUPPORTED",
    );
    const request = { prompt: "What?", images: [picturePath("square-40.png")], chat: false };
    expect(await code(text.prepare(request))).toBe("IMAGES_UNSUPPORTED");
  });

  it("are asked for where the prompt needs them", async () => {
    expect(await code(seeing.prepare({ prompt: "<image> What?", chat: false }))).toBe(
      "IMAGE_REQUIRED",
    );
    const id = seeing.config.multimodal!.imageTokenId;
    expect(await code(seeing.createSession().appendTokens([1, id]))).toBe("IMAGE_REQUIRED");
  });

  it("must match their placeholders", async () => {
    const prompt = await seeing.prepare({
      prompt: "<image>",
      images: [picturePath("square-40.png")],
      chat: false,
    });
    const short = { ...prompt, tokenIds: prompt.tokenIds.slice(1) };
    expect(await code(seeing.createSession().appendPrompt(short))).toBe("PLACEHOLDER_MISMATCH");
  });
});
