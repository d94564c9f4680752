// Exact-match accuracy of the bundled model on the held-out questions of tools/train-demo-model, by policy:
//   node apps/nchunk/bench/heldout-accuracy.mjs [questions of each kind = 1000] [policies = dense,topk,chunk] [sparsity = 0.3]
//     [largest chunk in KiB, for chunk = as the demonstration sets it]
// Prints one JSON document. Sampling is greedy; 1,000 of each kind are all there are.
import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
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

const limit = Number(process.argv[2] ?? 1000);
const policies = (process.argv[3] ?? "dense,topk,chunk").split(",");
const sparsity = Number(process.argv[4] ?? 0.3);
const maxKiB = Number(process.argv[5] ?? 8);
const hyperparameters = { minKiB: 2, stepKiB: 2, maxKiB, jumpKiB: 2 };

function loadQuestions() {
  const taken = {};
  return ["pictures", "clips"]
    .flatMap((name) =>
      readFileSync(path.join(HELDOUT, `${name}.jsonl`), "utf8")
        .trim()
        .split("\n"),
    )
    .map((line) => JSON.parse(line))
    .filter(({ kind }) => (taken[kind] = (taken[kind] ?? 0) + 1) <= limit);
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

const { dir } = await ensureFlashImage({ checkpointDir: MODEL, cacheDir: CACHE });
const questions = loadQuestions();
const results = [];
for (const policy of policies) {
  const options = { policy, sparsity, hyperparameters, contextLength: CONTEXT_LENGTH };
  const executor = await VlmExecutor.open(dir, options);
  const kinds = {};
  for (const [index, question] of questions.entries()) {
    const request = { prompt: question.question, ...(await visuals(question)) };
    const { text } = await executor.ask({ ...request, maxNewTokens: MAX_ANSWER_TOKENS }).answer();
    const kind = (kinds[question.kind] ??= { questions: 0, right: 0 });
    kind.questions += 1;
    kind.right += text.trim() === question.answer ? 1 : 0;
    if (index % 500 === 499)
      process.stderr.write(`${policy}: ${index + 1} of ${questions.length}\n`);
  }
  await executor.close();
  for (const kind of Object.values(kinds)) kind.accuracy = kind.right / kind.questions;
  results.push({
    policy,
    sparsity: policy === "dense" ? 0 : sparsity,
    ...(policy === "chunk" ? { hyperparameters } : {}),
    kinds,
  });
}
console.log(JSON.stringify({ questionsPerKind: limit, results }, null, 2));
