import { rm } from "node:fs/promises";
import { join } from "node:path";
import { FlashReader } from "@neuron-chunking/flash-reader";
import { openFlashImage } from "@neuron-chunking/weight-store";
import type { FlashImage } from "@neuron-chunking/weight-store";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VlmExecutorError } from "../src/index.js";
import { Session } from "../src/session.js";
import { writeDeepCheckpoint } from "./support/deep.js";
import { Images, openInsides } from "./support/images.js";
import { code, greedy, ids } from "./support/sessions.js";

const LAYERS = 20;
const BROKEN_LAYER = 17;
const ALWAYS = 65535;
const ROUNDS = 10;
const PROMPT = Array.from({ length: 12 }, (_, i) => 10 + i * 7);
const MORE = [40, 50, 60];
/** So little that each matrix comes in many slices, most of them under way while others are multiplied. */
const OPTIONS = { landingBytes: 1, policy: "topk", contextLength: 512 } as const;

type Faults = Omit<NonNullable<Parameters<typeof FlashReader.openWithFaults>[2]>, "seed">;
const randomSeed = () => (Math.random() * 2 ** 32) >>> 0;

let images: Images;
let dir: string;
beforeAll(async () => {
  images = await Images.create();
  const checkpoint = images.path("checkpoint");
  await writeDeepCheckpoint("qwen2-tied-f32", checkpoint, LAYERS);
  dir = await images.get(checkpoint, {}, "-image");
  await rm(checkpoint, { recursive: true });
});
afterAll(() => images.remove());

/** The model with a reader of the same file through `backend`, with faults. */
async function openFaulty(backend: "io_uring" | "pool", seed: number, faults: Faults) {
  const image = await openFlashImage(dir);
  const path = join(dir, image.manifest.flash.file);
  const faulty = await FlashReader.openWithFaults(path, { backend }, { seed, ...faults });
  const healthy = image.reader;
  const state = { image, path, healthy, faulty };
  return {
    ...state,
    close: async () => {
      await faulty.close();
      await healthy.close();
    },
  };
}

/** `image` with `readerFor` deciding, by the offset of a matrix, which reader its rows come from. */
function withReader(image: FlashImage, readerFor: (offsetBytes: number) => FlashReader) {
  const base = image.reader;
  let prepared = base;
  const reader = {
    alignmentBytes: base.alignmentBytes,
    allocateParts: base.allocateParts.bind(base),
    prepareSlices: ((slices, layout, landings, into) => {
      prepared = readerFor(layout.baseOffsetBytes);
      prepared.prepareSlices(slices, layout, landings, into);
    }) as FlashReader["prepareSlices"],
    startSlices: ((requests, sink, options) =>
      prepared.startSlices(requests, sink, options)) as FlashReader["startSlices"],
    close: () => Promise.resolve(),
  };
  return Object.create(image, { reader: { value: reader } }) as FlashImage;
}

const layerAt = (image: FlashImage, offsetBytes: number) =>
  image.bundles.find(
    (bundle) =>
      // Reads are widened to whole blocks.
      offsetBytes >= bundle.offsetBytes - 4096 &&
      offsetBytes < bundle.offsetBytes + bundle.rows * bundle.rowBytes,
  )?.layer;

async function reference(): Promise<{ logits: Float32Array; next: number[] }> {
  const { model, close } = await openInsides(dir, OPTIONS);
  const session = new Session(model);
  await session.appendTokens(PROMPT);
  await session.appendTokens(MORE);
  const logits = session.lastLogits!;
  const next = ids(await greedy(session, 6));
  await close();
  return { logits, next };
}

describe.each(["io_uring", "pool"] as const)("a device that fails, %s", (backend) => {
  it(`in layer ${BROKEN_LAYER}: a typed error, and a session as before it`, async () => {
    const expected = await reference();
    const seed = randomSeed();
    console.log(`backend ${backend}, seed ${seed}`);
    const { image, path, healthy, faulty, close } = await openFaulty(backend, seed, {
      ioError: ALWAYS,
    });
    let broken = false;
    const routed = withReader(image, (offsetBytes) =>
      broken && layerAt(image, offsetBytes) === BROKEN_LAYER ? faulty : healthy,
    );
    const { model } = await openInsides(dir, OPTIONS, routed);
    const session = new Session(model);
    await session.appendTokens(PROMPT);
    broken = true;
    for (let attempt = 0; attempt < 3; attempt++) {
      const error: unknown = await session.appendTokens(MORE).catch((cause: unknown) => cause);
      expect(error).toBeInstanceOf(VlmExecutorError);
      expect(error).toMatchObject({
        code: "READ_FAILED",
        layer: BROKEN_LAYER,
        bundle: `layers.${BROKEN_LAYER}.attn_in`,
        path,
        errno: "EIO",
        lengthBytes: expect.any(Number) as number,
      });
      const { message, offsetBytes } = error as VlmExecutorError & { offsetBytes: number };
      expect(layerAt(image, offsetBytes)).toBe(BROKEN_LAYER);
      for (const part of [path, `layer ${BROKEN_LAYER}`, String(offsetBytes)]) {
        expect(message).toContain(part);
      }
      expect(session.length).toBe(PROMPT.length);
      for (const reader of [healthy, faulty]) expect(reader.stats().bytesInFlight).toBe(0);
    }
    broken = false;
    await session.appendTokens(MORE);
    expect(session.lastLogits).toEqual(expected.logits);
    // In the middle of an answer: what was given stays, and the answer goes on.
    const answer: number[] = [];
    for await (const { id } of session.generate({ maxNewTokens: 3, stopTokenIds: [] })) {
      answer.push(id);
    }
    broken = true;
    expect(await code(greedy(session, 3))).toBe("READ_FAILED");
    broken = false;
    answer.push(...ids(await greedy(session, 3)));
    expect(answer).toEqual(expected.next);
    await close();
  });

  it("now and then: right logits or a typed error, never wrong ones", async () => {
    const expected = await reference();
    const seed = randomSeed();
    const where = `backend ${backend}, seed ${seed}`;
    console.log(where);
    const { image, path, faulty, close } = await openFaulty(backend, seed, {
      ioError: 12,
      shortRead: 6000,
      interrupted: 2000,
      again: 300,
      delay: 100,
    });
    const { model } = await openInsides(
      dir,
      OPTIONS,
      withReader(image, () => faulty),
    );
    const ends = { right: 0, failed: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const session = new Session(model);
      for (const tokens of [PROMPT, MORE]) {
        for (;;) {
          const { length } = session;
          const error: unknown = await session
            .appendTokens(tokens)
            .catch((cause: unknown) => cause);
          expect(faulty.stats().bytesInFlight, where).toBe(0);
          if (error === undefined) break;
          expect(error, where).toMatchObject({ code: "READ_FAILED", path, errno: "EIO" });
          const { layer, offsetBytes } = error as { layer: number; offsetBytes: number };
          expect(layerAt(image, offsetBytes), where).toBe(layer);
          expect(session.length, where).toBe(length);
          ends.failed += 1;
        }
      }
      expect(session.lastLogits, where).toEqual(expected.logits);
      ends.right += 1;
    }
    expect(ends.right, where).toBe(ROUNDS);
    expect(ends.failed, where).toBeGreaterThan(0);
    await close();
  });

  it("and an abort in the middle leaves nothing in flight", async () => {
    const expected = await reference();
    const seed = randomSeed();
    const where = `backend ${backend}, seed ${seed}`;
    console.log(where);
    const { image, faulty, close } = await openFaulty(backend, seed, { delay: 400 });
    const { model } = await openInsides(
      dir,
      OPTIONS,
      withReader(image, () => faulty),
    );
    const session = new Session(model);
    await session.appendTokens(PROMPT);
    let aborted = 0;
    for (let round = 0; round < 20; round++) {
      const controller = new AbortController();
      const call = code(session.appendTokens(MORE, { signal: controller.signal }));
      // Somewhere within the pass, counted in reads rather than in time.
      const until = faulty.stats().requests + 1 + round * 25;
      while (faulty.stats().requests < until) await new Promise((done) => setImmediate(done));
      const overlapped = faulty.stats().bytesInFlight > 0;
      controller.abort();
      expect(await call, where).toBe("ABORTED");
      expect(faulty.stats().bytesInFlight, where).toBe(0);
      expect(session.length, where).toBe(PROMPT.length);
      if (overlapped) aborted += 1;
    }
    expect(aborted, where).toBeGreaterThan(0);
    await session.appendTokens(MORE);
    expect(session.lastLogits, where).toEqual(expected.logits);
    await close();
  });
});
