// Exact-match accuracy of the bundled model on the held-out questions of tools/train-demo-model, by policy:
//   node apps/nchunk/bench/heldout-accuracy.mjs [questions of each kind = 1000] [policies = dense,topk,chunk,lagrange,one-price,teal]
//     [sparsity = 0.3] [largest chunk in KiB, for chunk = as the demonstration sets it]
//     [device whose read latencies are modelled: orin-agx, orin-nano or nvme-gen4 = nvme-gen4] [questions of each kind to skip = 0]
// `lagrange` keeps topk's importance at the sparsity in every matrix in the least modelled time. `teal` is the same with a sparsity
// for each matrix by TEAL's allocation, and `topk-teal` topk with these. `one-price` has one price for the whole model, for the
// modelled time that `lagrange` takes on the calibration's inputs (what the executor does where there is a calibration);
// `latency-target` finds it pass by pass for the latency that `lagrange` took in the mean, so it must come after it.
// Prints one JSON document with, for each
// policy, accuracy by kind, the mean divergence of the first answer token's distribution from dense, KL(dense || policy) in nats,
// and modelled latency, bytes and calibrated error per pass. Sampling is greedy; 1,000 of each kind are all there are. The
// `@int8`, `@int8-64`, `@int4` or `@int4-64` after a policy's name runs it on the image that `nchunk convert --dtype --group-size`
// makes; the divergence stays that from dense on the checkpoint's own weights. `+reduced` at the end runs it with reduced arithmetic
// (`--arithmetic`), as far as this machine has any. The
// calibration is made from the last questions of each kind, so that a run of fewer does not see them.
import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { tealAllocations } from "@neuron-chunking/chunk-selector";
import { simulatedDevice } from "@neuron-chunking/latency-model";
import { VlmExecutor } from "@neuron-chunking/vlm-executor";
import { ensureFlashImage } from "@neuron-chunking/weight-store";
import sharp from "sharp";

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");
const HELDOUT = path.join(ROOT, "tools/train-demo-model/heldout");
const MODEL = process.env.NCHUNK_BENCH_MODEL ?? path.join(ROOT, "apps/nchunk/assets/demo-model");
const CACHE = path.join(ROOT, "node_modules/.cache/nchunk-bench");
const SIDE_PX = 64;
const FRAMES = 8;
const TILES_PER_ROW = 25;
const MAX_ANSWER_TOKENS = 12;
const CONTEXT_LENGTH = 256;
const CALIBRATION_QUESTIONS = 4;

const limit = Number(process.argv[2] ?? 1000);
const policies = (process.argv[3] ?? "dense,topk,chunk,lagrange,one-price,teal").split(",");
const sparsity = Number(process.argv[4] ?? 0.3);
const maxKiB = Number(process.argv[5] ?? 8);
const profile = simulatedDevice(process.argv[6] ?? "nvme-gen4");
const skipped = Number(process.argv[7] ?? 0);
const hyperparameters = { minKiB: 2, stepKiB: 2, maxKiB, jumpKiB: 2 };

/** Questions of each kind to ask, and the last of each kind to calibrate with. */
function loadQuestions() {
  const byKind = {};
  for (const name of ["pictures", "clips"]) {
    const lines = readFileSync(path.join(HELDOUT, `${name}.jsonl`), "utf8")
      .trim()
      .split("\n");
    for (const question of lines.map((line) => JSON.parse(line))) {
      (byKind[question.kind] ??= []).push(question);
    }
  }
  const lists = Object.values(byKind);
  return {
    asked: lists.flatMap((list) => list.slice(skipped, skipped + limit)),
    calibrating: lists.flatMap((list) => list.slice(-CALIBRATION_QUESTIONS)),
  };
}

const sheets = new Map();
async function sheet(name) {
  if (!sheets.has(name)) {
    const file = path.join(HELDOUT, name);
    const { data, info } = await sharp(file)
      .removeAlpha()
      .toColourspace("srgb")
      .raw()
      .toBuffer({ resolveWithObject: true });
    sheets.set(name, { data, width: info.width });
  }
  return sheets.get(name);
}

/** One 64x64 tile of a contact sheet. */
function tile({ data, width }, row, column) {
  const rgb = new Uint8Array(SIDE_PX * SIDE_PX * 3);
  for (let y = 0; y < SIDE_PX; y += 1) {
    const start = ((row * SIDE_PX + y) * width + column * SIDE_PX) * 3;
    rgb.set(data.subarray(start, start + SIDE_PX * 3), y * SIDE_PX * 3);
  }
  return { width: SIDE_PX, height: SIDE_PX, rgb };
}

async function visuals(question) {
  const source = await sheet(question.sheet);
  if (question.tile === undefined) {
    const frames = Array.from({ length: FRAMES }, (_, i) => tile(source, question.row, i));
    return { videos: [frames] };
  }
  const { tile: index } = question;
  return { images: [tile(source, Math.floor(index / TILES_PER_ROW), index % TILES_PER_ROW)] };
}

async function requestFor(question) {
  return { prompt: question.question, ...(await visuals(question)) };
}

async function calibrate(dir, questions) {
  const executor = await VlmExecutor.open(dir, { blockTokens: 64, contextLength: CONTEXT_LENGTH });
  async function* prompts() {
    for (const question of questions) yield await executor.prepare(await requestFor(question));
  }
  const calibration = await executor.measure(prompts());
  await executor.close();
  return calibration;
}

/** KL(p || q) of two distributions given as logits, in nats. */
function divergence(p, q) {
  const logSum = (logits) => {
    const most = logits.reduce((a, b) => Math.max(a, b));
    return most + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0));
  };
  const [pSum, qSum] = [logSum(p), logSum(q)];
  let sum = 0;
  for (let i = 0; i < p.length; i += 1) {
    sum += Math.exp(p[i] - pSum) * (p[i] - pSum - (q[i] - qSum));
  }
  return sum;
}

/** Accuracy and what passes cost under one policy; `onFirst` sees each question's first logits. */
async function run(name, dir, options, questions, onFirst) {
  const executor = await VlmExecutor.open(dir, {
    profile,
    contextLength: CONTEXT_LENGTH,
    ...options,
  });
  const kinds = {};
  const sums = { steps: 0, estimatedReadNs: 0, estimatedError: 0, bytesWanted: 0 };
  for (const [index, question] of questions.entries()) {
    const session = executor.createSession({ traceCapacity: 0 });
    await session.appendPrompt(await executor.prepare(await requestFor(question)));
    onFirst(index, session.lastLogits);
    let text = "";
    const tokens = session.generate({ maxNewTokens: MAX_ANSWER_TOKENS });
    for await (const token of tokens) text += token.text;
    for (const totals of Object.values(session.totals)) {
      for (const field of Object.keys(sums)) sums[field] += totals[field];
    }
    session.close();
    const kind = (kinds[question.kind] ??= { questions: 0, right: 0 });
    kind.questions += 1;
    kind.right += text.trim() === question.answer ? 1 : 0;
    if (index % 500 === 499) {
      process.stderr.write(`${name}: ${index + 1} of ${questions.length}\n`);
    }
  }
  const streamedBytes = executor.plan().streamedBytes;
  await executor.close();
  for (const kind of Object.values(kinds)) kind.accuracy = kind.right / kind.questions;
  const right = Object.values(kinds).reduce((sum, kind) => sum + kind.right, 0);
  return {
    policy: name,
    accuracy: right / questions.length,
    modelledNsPerPass: sums.estimatedReadNs / sums.steps,
    bytesPerPass: sums.bytesWanted / sums.steps,
    bytesShare: sums.bytesWanted / sums.steps / streamedBytes,
    calibratedError: sums.estimatedError / sums.steps,
    kinds,
  };
}

/** The flash image of a format such as "int4-64"; without one, of the checkpoint's own weights. */
async function imageOf(format) {
  const [dtype, groupSize = "32"] = format?.split("-") ?? [];
  const quantised = dtype === undefined ? {} : { dtype, groupSize: Number(groupSize) };
  return (await ensureFlashImage({ checkpointDir: MODEL, cacheDir: CACHE, ...quantised })).dir;
}

const dir = await imageOf();
const { asked, calibrating } = loadQuestions();
const calibration = await calibrate(dir, calibrating);
const [{ sparsities }] = tealAllocations(calibration, [sparsity]).allocations;
const results = [];
const OPTIONS = {
  dense: () => ({ policy: "dense" }),
  topk: () => ({ policy: "topk", sparsity }),
  chunk: () => ({ policy: "chunk", sparsity, hyperparameters }),
  lagrange: () => ({ policy: "lagrange", sparsity, balance: "equal-importance" }),
  "one-price": () => ({ policy: "lagrange", sparsity }),
  "latency-target": () => ({
    policy: "lagrange",
    latencyTargetNs: results.find(({ policy }) => policy === "lagrange").modelledNsPerPass,
  }),
  teal: () => ({ policy: "lagrange", sparsities }),
  "topk-teal": () => ({ policy: "topk", sparsities }),
};
const dense = [];
for (const name of policies) {
  let sum = 0;
  const [rows, arithmetic = "f32"] = name.split("+");
  const [policy, format] = rows.split("@");
  const result = await run(
    name,
    await imageOf(format),
    { calibration, arithmetic, ...OPTIONS[policy]() },
    asked,
    (index, logits) => {
      dense[index] ??= logits;
      sum += divergence(dense[index], logits);
    },
  );
  results.push({
    ...result,
    ...(policies[0] === "dense" ? { divergence: sum / asked.length } : {}),
  });
}
console.log(
  JSON.stringify(
    { questionsPerKind: limit, sparsity, device: profile.name, hyperparameters, results },
    null,
    2,
  ),
);
