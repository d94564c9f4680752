/**
 * What leaving rows out, storing them quantised, or reduced arithmetic costs the TinyStories model (tools/tinystories), as the tables in README.md:
 *
 *     node packages/vlm-executor/bench/tinystories-loss.mjs [quantised|reduced]
 *
 * The stories are fed token by token, as in decoding (reduced arithmetic: in blocks too); estimates use the modelled NVMe drive.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureTinyStories } from "@neuron-chunking/tinystories";
import { convertCheckpoint, readManifest } from "@neuron-chunking/weight-store";
import { VlmExecutor } from "@neuron-chunking/vlm-executor";

const CALIBRATION_PROMPTS = [
  "One day",
  "Once upon a time",
  "Tom had a",
  "Mia and her mom",
  "The little dog",
  "A big bear",
];
const { stories } = JSON.parse(
  await readFile(new URL("../test/texts/stories.json", import.meta.url), "utf8"),
);

function lossOf(logits, id) {
  const peak = logits.reduce((a, b) => Math.max(a, b));
  return (
    Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - peak), 0)) + peak - logits[id]
  );
}

async function measure(dir, options) {
  const model = await VlmExecutor.open(dir, { directIo: "disabled", blockTokens: 1, ...options });
  let [loss, tokens, kept, matrices, rows, chunks] = [0, 0, 0, 0, 0, 0];
  for (const prompt of stories) {
    const { tokenIds } = await model.prepare({ prompt, chat: false });
    const onStep = ({ projections }) => {
      for (const projection of projections) kept += projection.importanceKept;
      matrices += projections.length;
    };
    const session = model.createSession({ onStep });
    const logits = await session.appendForLogits({ tokenIds });
    for (let i = 1; i < tokenIds.length; i++) loss += lossOf(logits[i - 1], tokenIds[i]);
    tokens += tokenIds.length - 1;
    rows += session.totals.prefill.rows;
    chunks += session.totals.prefill.chunks;
  }
  const { rounding } = model;
  await model.close();
  const perplexity = Math.exp(loss / tokens);
  return { perplexity, kept: kept / matrices, meanRows: rows / chunks, rounding };
}

/** Row orders from stories the model tells itself. */
async function calibrate(dir) {
  const model = await VlmExecutor.open(dir, { directIo: "disabled", blockTokens: 1 });
  const samples = [];
  for (const [seed, prompt] of CALIBRATION_PROMPTS.entries()) {
    const request = { prompt, maxNewTokens: 80, temperature: 0.8, seed, chat: false };
    const { tokenIds } = await model.ask(request).answer();
    samples.push({ tokenIds: [1, ...tokenIds] });
  }
  const permutations = await model.calibrate(samples);
  await model.close();
  return permutations;
}

/** Rows left out, of weights as they are. */
async function sparse(plain, root, checkpointDir) {
  const reordered = join(root, "reordered");
  const permutations = await calibrate(plain);
  await convertCheckpoint({ checkpointDir, outputDir: reordered, permutations });
  console.log("| rows | policy | left out | perplexity | importance kept | mean chunk, rows |");
  console.log("|---|---|---|---|---|---|");
  const line = async (rows, dir, policy, sparsity) => {
    const { perplexity, kept, meanRows } = await measure(dir, { policy, sparsity });
    const values = [perplexity.toFixed(2), kept.toFixed(3), meanRows.toFixed(1)];
    console.log(`| ${rows} | ${policy} | ${sparsity * 100} % | ${values.join(" | ")} |`);
  };
  await line("as in the checkpoint", plain, "dense", 0);
  for (const policy of ["topk", "chunk"]) {
    for (const sparsity of [0.3, 0.5, 0.7]) {
      await line("as in the checkpoint", plain, policy, sparsity);
    }
  }
  for (const sparsity of [0.3, 0.5, 0.7]) await line("hot first", reordered, "chunk", sparsity);
}

/** Every row, stored in each way. */
async function quantised(plain, root, checkpointDir) {
  console.log("| stored as | streamed | perplexity |");
  console.log("|---|---|---|");
  const line = async (name, dir) => {
    const { perplexity } = await measure(dir, { policy: "dense" });
    const { bundles } = (await readManifest(dir)).flash;
    const bytes = bundles.reduce((sum, { rows, rowBytes }) => sum + rows * rowBytes, 0);
    console.log(`| ${name} | ${(bytes / 1e6).toFixed(1)} MB | ${perplexity.toFixed(3)} |`);
  };
  const { dtype } = (await readManifest(plain)).flash.bundles[0];
  await line(`${dtype}, as in the checkpoint`, plain);
  for (const dtype of ["int8", "int4"]) {
    for (const groupSize of [32, 64]) {
      const outputDir = join(root, `${dtype}-${groupSize}`);
      await convertCheckpoint({ checkpointDir, outputDir, dtype, groupSize });
      await line(`${dtype}, groups of ${groupSize}`, outputDir);
    }
  }
}

/** Every row, with operands rounded, of weights stored in each way. */
async function reduced(plain, root, checkpointDir) {
  const { dtype } = (await readManifest(plain)).flash.bundles[0];
  const dirs = { [dtype]: plain };
  for (const name of ["int8", "int4"]) {
    dirs[name] = join(root, name);
    await convertCheckpoint({ checkpointDir, outputDir: dirs[name], dtype: name });
  }
  console.log("| stored as | tokens of a pass | perplexity, f32 | reduced | what is rounded |");
  console.log("|---|---|---|---|---|");
  for (const [name, dir] of Object.entries(dirs)) {
    for (const blockTokens of [1, 64]) {
      const exact = await measure(dir, { policy: "dense", blockTokens });
      const other = await measure(dir, { policy: "dense", blockTokens, arithmetic: "reduced" });
      const values = [exact, other].map(({ perplexity }) => perplexity.toFixed(4));
      const rounding = other.rounding.join(", ") || "nothing here";
      console.log(`| ${[name, blockTokens, ...values, rounding].join(" | ")} |`);
    }
  }
}

const TABLES = { quantised, reduced };
const root = await mkdtemp(join(tmpdir(), "nchunk-loss-"));
try {
  const checkpointDir = await ensureTinyStories(join(root, "checkpoint"));
  const plain = join(root, "plain");
  await convertCheckpoint({ checkpointDir, outputDir: plain });
  const table = TABLES[process.argv[2]] ?? sparse;
  await table(plain, root, checkpointDir);
} finally {
  await rm(root, { recursive: true, force: true });
}
