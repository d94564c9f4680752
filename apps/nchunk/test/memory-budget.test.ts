/** A budget that holds: measured peaks of whole processes against it, with and without a control group around them. */
import { spawnSync } from "node:child_process";
import { access, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import sharp from "sharp";
import type { MemoryPlan } from "@neuron-chunking/vlm-executor";
import { convertCheckpoint } from "@neuron-chunking/weight-store";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createMemoryCgroup, type CgroupResult } from "../src/bench/e2e/memory-cgroup";
import { writeCheckpoint } from "../src/bench/e2e/model-files";
import { SHAPES } from "../src/bench/e2e/model-shape";
import { RandomWeights } from "../src/bench/e2e/random-weights";
import { uniformGenerator } from "../src/random";
import { CACHE_DIR, fixtureModel, nchunk, nchunkJson } from "./support/cli";
import { nchunkPeak, type PeakResult } from "./support/peak";

const SEED = 20_261_121;
const DEMO = path.resolve(import.meta.dirname, "../assets/demo-model");
const SHAPE = SHAPES["0.5b-part"];
/** Of the large model's runs: the cache is filled to the last position but a few. Fewer where processors are emulated. */
const CONTEXT = Number(process.env["NCHUNK_TEST_CONTEXT"] ?? 1024);
/** On the repository's own disk, where direct I/O can be expected, and kept for the next run. */
const FOLDER = path.join(CACHE_DIR, "memory-budget");
const LARGE = path.join(FOLDER, `${SHAPE.id}-${SEED}`);
const PICTURES = path.join(FOLDER, "pictures");
/** As large as a budget allows by default. */
const SIDE = 2048;

const exists = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  );

/** The demo model's tokenizer with as many merges more as the large model's vocabulary has room for. */
async function writeTokenizer(folder: string): Promise<void> {
  const read = async (name: string) => readFile(path.join(DEMO, name), "utf8");
  const tokenizer = JSON.parse(await read("tokenizer.json")) as {
    model: { vocab: Record<string, number>; merges: [string, string][] };
  };
  const { vocab, merges } = tokenizer.model;
  const words = Object.keys(vocab);
  const uniform = uniformGenerator(SEED);
  for (let id = 1 + Math.max(...Object.values(vocab), 600); id < SHAPE.vocabSize;) {
    const pick = (below: number) => words[Math.floor(uniform() * below)];
    const [left, right] = [pick(words.length), pick(256)];
    const word = left + right;
    if (word.length > 12 || vocab[word] !== undefined) continue;
    vocab[word] = id++;
    words.push(word);
    merges.push([left, right]);
  }
  await writeFile(path.join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  await writeFile(path.join(folder, "tokenizer_config.json"), await read("tokenizer_config.json"));
}

async function makeLargeModel(): Promise<void> {
  if (await exists(LARGE)) return;
  console.log(`writing ${SHAPE.note ?? SHAPE.name} Seed ${SEED}.`);
  const checkpoint = `${LARGE}-checkpoint`;
  await writeCheckpoint(checkpoint, SHAPE, {
    weights: new RandomWeights(SEED),
    report: () => undefined,
    signal: new AbortController().signal,
  });
  await writeTokenizer(checkpoint);
  await convertCheckpoint({ checkpointDir: checkpoint, outputDir: LARGE });
  await rm(checkpoint, { recursive: true, force: true });
}

const FORMATS = ["noise.png", "interlaced.png", "turned.jpg", "noise.webp", "small.png"] as const;

/** Pictures that take as much to decode as can be: noise, in the formats whose decoders keep whole planes. */
async function makePictures(): Promise<void> {
  if (await exists(path.join(PICTURES, FORMATS[FORMATS.length - 1]))) return;
  await mkdir(PICTURES, { recursive: true });
  const uniform = uniformGenerator(SEED);
  const bytes = Buffer.from(Uint8Array.from({ length: SIDE * SIDE * 4 }, () => uniform() * 256));
  const noise = (channels: 3 | 4) =>
    sharp(bytes.subarray(0, SIDE * SIDE * channels), {
      raw: { width: SIDE, height: SIDE, channels },
    });
  const at = (name: (typeof FORMATS)[number]) => path.join(PICTURES, name);
  await noise(4).png({ compressionLevel: 1 }).toFile(at("noise.png"));
  await noise(3).png({ compressionLevel: 1, progressive: true }).toFile(at("interlaced.png"));
  const turned = noise(3).withMetadata({ orientation: 6 });
  await turned.jpeg({ quality: 95, progressive: true }).toFile(at("turned.jpg"));
  await noise(4).webp({ quality: 95 }).toFile(at("noise.webp"));
  await noise(3).resize(200, 100).png().toFile(at("small.png"));
}

let cgroup: CgroupResult;
beforeAll(async () => {
  await mkdir(FOLDER, { recursive: true });
  await makeLargeModel();
  await makePictures();
  // Converts it, once; that is not what a budget is about.
  await nchunkJson(["plan", "--model", DEMO, "--policy", "dense"]);
  cgroup = await createMemoryCgroup();
}, 300_000);
afterAll(() => cgroup.group?.remove());

async function plan(model: string, args: readonly string[]): Promise<MemoryPlan> {
  return (await nchunkJson(["plan", "--model", model, ...args])) as unknown as MemoryPlan;
}

const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

/** Where rows are left that a larger prefix could hold, a budget is used: more than this share of it. */
const USED_SHARE = 0.85;

/** @param filled whether rows are left on flash, and the run fills what is planned for its context */
function requireWithin(
  what: string,
  result: PeakResult,
  budgetBytes: number,
  filled: boolean,
): void {
  const { status, stderr, peakBytes } = result;
  const ratio = (peakBytes / budgetBytes).toFixed(3);
  console.log(
    `${what}: peak ${mebibytes(peakBytes)} MiB of a budget of ${mebibytes(budgetBytes)} MiB (${ratio})`,
  );
  expect(status, stderr).toBe(0);
  expect(peakBytes).toBeGreaterThan(30 * 2 ** 20);
  expect(peakBytes).toBeLessThanOrEqual(budgetBytes);
  if (filled) expect(peakBytes).toBeGreaterThan(USED_SHARE * budgetBytes);
}

const TOKENS = Array.from({ length: CONTEXT - 4 }, (_, i) => (i * 7919) % SHAPE.vocabSize).join();

interface Case {
  readonly what: string;
  readonly verb: "logits" | "run";
  readonly model: string;
  /** Options that the plan depends on. */
  readonly shaping: readonly string[];
  readonly args: readonly string[];
  /** Of the streamed bytes, beyond the least budget. */
  readonly share: number;
}

const picture = (name: string, share: number): Case => ({
  what: `demo, ${name}`,
  verb: "run",
  model: DEMO,
  shaping: ["--policy", "lagrange", "--device", "nvme-gen4"],
  args: [
    ...["--prompt", "What is it?", "--max-new-tokens", "16"],
    ...["--image", path.join(PICTURES, name)],
  ],
  share,
});

const fullContext = (share: number): Case => ({
  what: "0.5B shape, full context",
  verb: "logits",
  model: LARGE,
  shaping: ["--policy", "dense", "--context-length", String(CONTEXT)],
  args: ["--token-ids", TOKENS],
  share,
});

const text = (share: number): Case => ({
  what: "0.5B shape, text to tokens and back",
  verb: "run",
  model: LARGE,
  shaping: ["--policy", "topk", "--context-length", "256"],
  args: ["--no-chat", "--prompt", "a few words to encode", "--max-new-tokens", "24"],
  share,
});

const CASES: readonly Case[] = [
  ...FORMATS.map((name) => picture(name, 0)),
  picture("small.png", 1),
  ...[0, 0.5, 1].map(fullContext),
  ...[0, 0.5, 1].map(text),
];

describe("the least budget, and room beyond it", () => {
  it.each(CASES)("holds: $what, $share of the streamed bytes", async (runs) => {
    const { what, verb, model, shaping, args, share } = runs;
    const { minimumBytes, streamedBytes } = await plan(model, shaping);
    const budget = minimumBytes + Math.floor(share * streamedBytes);
    const budgeted = ["--memory-budget", String(budget)];
    const { prefixBytes, totalBytes } = await plan(model, [...shaping, ...budgeted]);
    if (share > 0) expect(prefixBytes).toBeGreaterThan(0);
    expect(totalBytes).toBeLessThanOrEqual(budget);
    const command = [verb, "--model", model, ...shaping, ...budgeted, ...args, "--json"];
    const filled = verb === "logits" && share > 0 && share < 1;
    requireWithin(`${what}, ${share}`, await nchunkPeak(command), budget, filled);
  });
});

/** Drops a file's pages from the page cache, where `dd` can. */
function evict(file: string): void {
  spawnSync("dd", [`of=${file}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0"]);
}

describe("under a control group's limit of the budget and 5 %", () => {
  it.each([0, 0.5])("runs with %d of the streamed bytes, no kill, no page cache", async (share) => {
    if (cgroup.group === undefined) {
      console.log(`skipped: ${cgroup.reason}`);
      return;
    }
    const { group } = cgroup;
    const shaping = ["--policy", "dense", "--context-length", String(CONTEXT)];
    const { minimumBytes, streamedBytes } = await plan(LARGE, shaping);
    const budget = minimumBytes + Math.floor(share * streamedBytes);
    for (const name of ["flash.safetensors", "resident.safetensors"]) evict(path.join(LARGE, name));
    await group.setLimit(Math.floor(budget * 1.05));
    const budgeted = ["--memory-budget", String(budget), "--direct-io", "required"];
    const result = await nchunkPeak(
      ["logits", "--model", LARGE, ...shaping, ...budgeted, "--token-ids", TOKENS, "--json"],
      group,
    );
    if (result.stdout.includes("DIRECT_IO_UNSUPPORTED")) {
      console.log("skipped: the repository's file system has no direct I/O");
      return;
    }
    requireWithin(`control group, ${share}`, result, budget, share > 0);
    expect(await group.oomKills()).toBe(0);
    const read = (name: string): Promise<string> =>
      readFile(path.join(group.folder, name), "utf8").catch(() => "");
    const statistics = await read("memory.stat");
    const cached = /^(?:cache|file) (\d+)$/m.exec(statistics)?.[1];
    const peak = (await group.peakBytes()) ?? 0;
    const events = (await read("memory.events")).trim().replaceAll("\n", ", ");
    console.log(`group's peak ${mebibytes(peak)} MiB, page cache left ${cached} bytes; ${events}`);
    // A process that is gone holds no swap: its limit, none where the kernel has no swap, says that there was none.
    const [swapFile, swapAllowed] =
      group.version === 1 ? ["memory.memsw.limit_in_bytes", budget * 1.05] : ["memory.swap.max", 0];
    expect(Number(await read(swapFile))).toBeLessThanOrEqual(swapAllowed);
    expect(peak).toBeLessThanOrEqual(budget * 1.05);
    // Manifest, configuration and tokenizer are read as files; weights are not.
    expect(Number(cached)).toBeLessThan(16 * 2 ** 20);
  });
});

describe("a budget that cannot work", () => {
  it("is refused with the smallest that can, and bisection around it finds no other", async () => {
    const model = fixtureModel("llava-tied-f32");
    const run = (budget: number) =>
      nchunk([
        ...["logits", "--model", model, "--token-ids", "5", "--json"],
        ...["--memory-budget", String(budget)],
      ]);
    const refused = await run(1);
    const { error } = JSON.parse(refused.stdout) as { error: { code: string; message: string } };
    expect(error.code).toBe("MEMORY_BUDGET_EXCEEDED");
    const said = Number(/needs (\d+) bytes/.exec(error.message)?.[1]);
    let [no, yes] = [said - 2 ** 16, said + 2 ** 16];
    expect((await run(no)).status).toBe(1);
    expect((await run(yes)).status).toBe(0);
    while (yes - no > 1) {
      const middle = Math.floor((no + yes) / 2);
      const { status } = await run(middle);
      if (status === 0) yes = middle;
      else no = middle;
    }
    expect(yes).toBe(said);
    expect((await plan(model, ["--policy", "dense"])).minimumBytes).toBe(said);
  }, 120_000);

  it("is refused before anything is loaded, by plan too", async () => {
    const budgeted = ["--policy", "dense", "--memory-budget", "200MiB"];
    const args = ["logits", "--model", LARGE, ...budgeted, "--token-ids", "5", "--json"];
    const refused = await nchunkPeak(args);
    expect(refused.status).toBe(1);
    expect(refused.stdout).toContain("MEMORY_BUDGET_EXCEEDED");
    expect(refused.peakBytes).toBeLessThan(160 * 2 ** 20);
    const planned = await nchunk(["plan", "--model", LARGE, ...budgeted, "--json"]);
    expect(planned.status).toBe(1);
    expect(JSON.parse(planned.stdout)).toMatchObject({ fits: false, prefixBytes: 0 });
  });

  it("refuses pictures beyond its limit", async () => {
    const { minimumBytes } = await plan(DEMO, [
      "--policy",
      "dense",
      "--max-picture-pixels",
      "10000",
    ]);
    const args = ["--policy", "dense", "--max-picture-pixels", "10000"];
    const image = path.join(PICTURES, "small.png");
    const budgeted = ["--memory-budget", String(minimumBytes)];
    const prompt = ["--prompt", "What?", "--image", image, "--max-new-tokens", "1"];
    const { status, stdout } = await nchunk([
      ...["run", "--model", DEMO, ...args, ...budgeted, ...prompt, "--json"],
    ]);
    expect(status).toBe(1);
    expect(stdout).toContain("IMAGE_TOO_LARGE");
  });
});

describe("plan", () => {
  it("tells people what is where, and that a budget does not work", async () => {
    const args = ["plan", "--model", DEMO, "--policy", "dense", "--context", "512"];
    const { stdout, status } = await nchunk(args);
    expect(status).toBe(0);
    expect(stdout).toMatch(/KV cache/);
    expect(stdout).toMatch(/Context of 512 tokens/);
    expect(stdout).toMatch(/The smallest budget that works is \d+ bytes/);
    const small = await nchunk([...args, "--memory-budget", "100MiB"]);
    expect(small.status).toBe(1);
    expect(small.stdout).toMatch(/does not work: the smallest that does is \d+ bytes/);
  });

  it("goes without reading ahead rather than refuse a budget, unless that was asked for", async () => {
    const dense = (...args: string[]) => plan(LARGE, ["--policy", "dense", ...args]);
    const { minimumBytes, readAheadBytes } = await dense();
    expect(readAheadBytes).toBeGreaterThan(0);
    expect((await dense("--prefetch", "off")).minimumBytes).toBe(minimumBytes);
    const always = await dense("--prefetch", "always");
    expect(always.minimumBytes).toBe(minimumBytes + readAheadBytes);
    const within = (bytes: number) => dense("--memory-budget", String(bytes));
    expect((await within(minimumBytes)).readAheadBytes).toBe(0);
    expect((await within(always.minimumBytes)).readAheadBytes).toBe(readAheadBytes);
  });

  it("expects less reading the more is in memory", async () => {
    const shaping = ["--policy", "lagrange", "--device", "orin-nano"];
    const { minimumBytes, streamedBytes } = await plan(LARGE, shaping);
    const expected: number[] = [];
    for (const share of [0, 0.25, 0.5, 1]) {
      const budget = minimumBytes + Math.floor(share * streamedBytes);
      const { prefix } = await plan(LARGE, [...shaping, "--memory-budget", String(budget)]);
      expected.push(prefix.expectedReadNs);
    }
    expect(expected).toEqual([...expected].sort((a, b) => b - a));
    expect(new Set(expected).size).toBe(4);
    expect(expected[3]).toBe(0);
  });
});
