/**
 * How well the plans of a matrix's last passes foretell its next one, which is what speculative prefetch lives on:
 *
 *     node packages/vlm-executor/bench/plan-overlap.mjs [--policies topk,chunk,lagrange] [--sparsities 0.3,0.5]
 *         [--clips 6] [--tokens 48] [--block 64] [--device nvme-gen4] [--models demo,tinystories] [--kinds] [--json]
 *
 * Plans are those of real inputs: the bundled model over held-out clips frame by frame, a question about each and its
 * answer; TinyStories over its test stories in blocks of `--block` tokens (a stand-in for passes of many tokens: its model
 * has no frames) and token by token. By model, policy, change of phase and kind of matrix, for several ways to
 * foretell a plan, in shares of the plan's bytes: what was foretold of it (`hit`), what was foretold and not in it (`waste`),
 * and in shares of modelled read time `useful`: what the foretold reads save of the plan's, over what they cost. `chance` is
 * the hit share of as many rows at random. All matrices together, or with `--kinds` each kind too; `--json` has all of it.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { runnerImport } from "vite";
import {
  estimatePlanNs,
  planFromMask,
  requestTable,
  simulatedDevice,
} from "@neuron-chunking/latency-model";
import { ensureTinyStories } from "@neuron-chunking/tinystories";
import { convertCheckpoint } from "@neuron-chunking/weight-store";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { VlmExecutor, PolicyRows, PlanDifference, PlanExcerpt, PlanWorkspace } = (
  await runnerImport(here("plan-sources.mjs"))
).module;

const { values: options } = parseArgs({
  options: {
    policies: { type: "string", default: "topk,chunk,lagrange" },
    sparsities: { type: "string", default: "0.3,0.5" },
    clips: { type: "string", default: "6" },
    tokens: { type: "string", default: "48" },
    block: { type: "string", default: "64" },
    device: { type: "string", default: "nvme-gen4" },
    models: { type: "string", default: "demo,tinystories" },
    kinds: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const profile = simulatedDevice(options.device);
const table = requestTable(profile);
/** As the demonstration sets them: Algorithm 1's own are wider than these matrices. */
const WINDOWS = { minKiB: 2, stepKiB: 2, maxKiB: 8, jumpKiB: 2 };
/** Of the plan's rows, where a predictor is held to a part: what the drive has time for between two projections. */
const PART = 0.25;
const DECAY = 0.5;
const HELDOUT = here("../../../tools/train-demo-model/heldout/");
const FRAMES = 8;
const SIDE_PX = 64;
/** Kinds of matrices together. */
const ALL = "all";

const maskOf = (plan, rows) => {
  const mask = new Uint8Array(rows);
  for (let c = 0; c < plan.chunkCount; c++) {
    mask.fill(1, plan.starts[c], plan.starts[c] + plan.lengths[c]);
  }
  return mask;
};
const count = (mask) => mask.reduce((sum, one) => sum + one, 0);
/** The `most` best of the rows of `mask`. */
function best(mask, values, most) {
  const rows = [...mask.keys()].filter((row) => mask[row] === 1);
  rows.sort((a, b) => values[b] - values[a]);
  const out = new Uint8Array(mask.length);
  for (const row of rows.slice(0, most)) out[row] = 1;
  return out;
}
function firstRows(mask, most) {
  return best(
    mask,
    Float64Array.from(mask, (_, row) => -row),
    most,
  );
}
/** As the prefetcher does it: the longest chunks. */
function excerpt(mask, rowBytes, most) {
  const plan = new PlanWorkspace(mask.length);
  const { starts, lengths, chunkCount } = planFromMask(mask);
  for (let c = 0; c < chunkCount; c++) plan.add(starts[c], starts[c] + lengths[c]);
  const limits = { bytes: most * rowBytes, readNs: Infinity, overheadBytes: 0 };
  new PlanExcerpt(table).take(plan, rowBytes, limits);
  return maskOf(plan, mask.length);
}

/** Ways to foretell a plan from a matrix's past; `null` where it is too short. */
const PREDICTORS = {
  last: ({ masks: [a] }) => a,
  "both of 2": ({ masks: [a, b] }) => b && a.map((one, row) => one & b[row]),
  "2 of 3": ({ masks: [a, b, c] }) => c && a.map((one, row) => (one + b[row] + c[row] > 1 ? 1 : 0)),
  "last, best half": ({ masks: [a], importance }) => best(a, importance, Math.ceil(count(a) / 2)),
  "part: best": ({ masks: [a], importance }) => best(a, importance, Math.ceil(PART * count(a))),
  "part: longest": ({ masks: [a], rowBytes }) => excerpt(a, rowBytes, Math.ceil(PART * count(a))),
  "part: first": ({ masks: [a] }) => firstRows(a, Math.ceil(PART * count(a))),
  "part: best mean": ({ masks: [a], mean }) =>
    best(new Uint8Array(a.length).fill(1), mean, Math.ceil(PART * count(a))),
};

/** Sums by (change of phase, kind of matrix, predictor). */
class Account {
  sums = new Map();
  past = new Map();
  phase = "none";

  /** The phase of the passes from now on. */
  enter(phase) {
    this.phase = phase;
  }

  see(info, plan, importance) {
    const { name, kind, rows, rowBytes } = info;
    const mask = maskOf(plan, rows);
    const past = this.past.get(name);
    if (past !== undefined) this.compare(past, mask, kind, rowBytes, plan);
    const mean = past?.mean ?? new Float64Array(rows);
    const total = importance.reduce((sum, value) => sum + value, 0) || 1;
    for (let row = 0; row < rows; row++) {
      mean[row] = DECAY * mean[row] + importance[row] / total;
    }
    this.past.set(name, {
      masks: [mask, ...(past?.masks ?? [])].slice(0, 3),
      importance: Float32Array.from(importance),
      mean,
      phase: this.phase,
      rowBytes,
    });
  }

  compare(past, mask, kind, rowBytes, plan) {
    const planNs = estimatePlanNs(plan, rowBytes, table);
    const planBytes = count(mask) * rowBytes;
    for (const [predictor, foretell] of Object.entries(PREDICTORS)) {
      const foretold = foretell(past);
      if (!foretold) continue;
      const hitBytes = count(mask.map((one, row) => one & foretold[row])) * rowBytes;
      const foretoldBytes = count(foretold) * rowBytes;
      const difference = new PlanDifference(mask.length, table);
      difference.split(plan, planFromMask(foretold), rowBytes);
      const restNs = estimatePlanNs(difference.missing, rowBytes, table);
      for (const group of [kind, ALL]) {
        const key = `${past.phase} -> ${this.phase}|${group}|${predictor}`;
        let sum = this.sums.get(key);
        if (sum === undefined) {
          sum = { plans: 0, planBytes: 0, hitBytes: 0, foretoldBytes: 0, chanceBytes: 0 };
          Object.assign(sum, { savedNs: 0, foretoldNs: 0, keptRows: 0, rows: 0 });
          this.sums.set(key, sum);
        }
        sum.plans += 1;
        sum.planBytes += planBytes;
        sum.hitBytes += hitBytes;
        sum.foretoldBytes += foretoldBytes;
        sum.chanceBytes += planBytes * (count(foretold) / mask.length);
        sum.savedNs += planNs - restNs;
        sum.foretoldNs += estimatePlanNs(planFromMask(foretold), rowBytes, table);
        sum.keptRows += count(mask);
        sum.rows += mask.length;
      }
    }
  }
}

let account = null;
const { choose } = PolicyRows.prototype;
PolicyRows.prototype.choose = function chooseAndTell(info, importance, ...rest) {
  const choice = choose.call(this, info, importance, ...rest);
  account?.see(info, choice.plan, importance);
  return choice;
};

/** One 64x64 tile of a contact sheet of held-out clips. */
async function clipOf({ sheet, row }) {
  const { data, info } = await sharp(join(HELDOUT, sheet))
    .removeAlpha()
    .toColourspace("srgb")
    .raw()
    .toBuffer({ resolveWithObject: true });
  return Array.from({ length: FRAMES }, (_, column) => {
    const rgb = new Uint8Array(SIDE_PX * SIDE_PX * 3);
    for (let y = 0; y < SIDE_PX; y++) {
      const start = ((row * SIDE_PX + y) * info.width + column * SIDE_PX) * 3;
      rgb.set(data.subarray(start, start + SIDE_PX * 3), y * SIDE_PX * 3);
    }
    return { width: SIDE_PX, height: SIDE_PX, rgb };
  });
}

/** Clips frame by frame, a question about each, its answer. */
async function watchClips(dir, settings) {
  const lines = (await readFile(join(HELDOUT, "clips.jsonl"), "utf8")).trim().split("\n");
  const step = Math.floor(lines.length / Number(options.clips));
  const questions = Array.from({ length: Number(options.clips) }, (_, i) =>
    JSON.parse(lines[i * step]),
  );
  const model = await VlmExecutor.open(dir, { profile, contextLength: 256, ...settings });
  account = new Account();
  for (const question of questions) {
    const session = model.createSession();
    account.enter("prompt");
    await session.appendText("<|im_start|>user ");
    account.enter("frame");
    await session.appendFrames(await clipOf(question));
    account.enter("prompt");
    await session.appendText(`\n${question.question}<|im_end|><|im_start|>assistant\n`);
    account.enter("token");
    for await (const token of session.generate({ maxNewTokens: 12, stopTokenIds: [] })) void token;
    session.close();
  }
  await model.close();
  return account;
}

/** Stories in blocks of tokens, each followed by tokens of its own one by one. */
async function tellStories(dir, settings) {
  const { stories } = JSON.parse(await readFile(here("../test/texts/stories.json"), "utf8"));
  const model = await VlmExecutor.open(dir, { profile, directIo: "disabled", ...settings });
  account = new Account();
  const block = Number(options.block);
  const decoded = Number(options.tokens);
  for (const prompt of stories) {
    const { tokenIds } = await model.prepare({ prompt, chat: false });
    const session = model.createSession();
    const blocks = tokenIds.length - decoded;
    account.enter("block");
    for (let first = 0; first < blocks; first += block) {
      await session.appendTokens(tokenIds.slice(first, Math.min(blocks, first + block)));
    }
    account.enter("token");
    for (const id of tokenIds.slice(blocks)) {
      await session.append({ tokenIds: Int32Array.of(id) }, "decode");
    }
    session.close();
  }
  await model.close();
  return account;
}

const root = await mkdtemp(join(tmpdir(), "nchunk-overlap-"));
async function image(checkpointDir, name) {
  const outputDir = join(root, name);
  await convertCheckpoint({ checkpointDir, outputDir });
  return outputDir;
}
const MODELS = {
  demo: {
    dir: () => image(here("../../../apps/nchunk/assets/demo-model"), "demo"),
    run: watchClips,
  },
  tinystories: {
    dir: async () => image(await ensureTinyStories(join(root, "checkpoint")), "tinystories"),
    run: tellStories,
  },
};

function report(model, policy, sparsity, { sums }) {
  for (const [key, sum] of sums) {
    const [change, kind, predictor] = key.split("|");
    cases.push({
      model,
      policy,
      sparsity,
      change,
      kind,
      predictor,
      plans: sum.plans,
      kept: sum.keptRows / sum.rows,
      hit: sum.hitBytes / sum.planBytes,
      chance: sum.chanceBytes / sum.planBytes,
      waste: (sum.foretoldBytes - sum.hitBytes) / sum.planBytes,
      useful: sum.savedNs / sum.foretoldNs,
    });
  }
}

const CHANGES = [
  "frame -> frame",
  "block -> block",
  "token -> token",
  "block -> token",
  "prompt -> token",
];
function print() {
  console.log(`Modelled drive: ${table.name}; "part" is ${PART} of the last plan's rows.\n`);
  const columns = ["model", "policy", "left out", "change", "matrix", "plans", "rows kept"];
  console.log(`| ${[...columns, "foretold by", "hit", "chance", "waste", "useful"].join(" | ")} |`);
  console.log(`|${"---|".repeat(columns.length + 5)}`);
  for (const one of cases) {
    if (!CHANGES.includes(one.change) || (one.kind !== ALL && !options.kinds)) continue;
    const percent = (share) => `${(100 * share).toFixed(0)} %`;
    const { model, policy, sparsity, change, kind, plans, predictor } = one;
    const shares = [one.hit, one.chance, one.waste, one.useful].map(percent);
    const row = [model, policy, percent(sparsity), change, kind, plans, percent(one.kept)];
    console.log(`| ${[...row, predictor, ...shares].join(" | ")} |`);
  }
}

const cases = [];
const skipped = [];
try {
  for (const name of options.models.split(",")) {
    let dir;
    try {
      dir = await MODELS[name].dir();
    } catch (cause) {
      skipped.push({ model: name, reason: cause.message });
      continue;
    }
    for (const policy of options.policies.split(",")) {
      for (const sparsity of options.sparsities.split(",").map(Number)) {
        const settings = { policy, sparsity, hyperparameters: WINDOWS };
        report(name, policy, sparsity, await MODELS[name].run(dir, settings));
      }
    }
  }
} finally {
  await rm(root, { recursive: true, force: true });
}
if (options.json)
  console.log(JSON.stringify({ device: table.name, part: PART, cases, skipped }, null, 2));
else print();
for (const { model, reason } of skipped) console.error(`${model} skipped: ${reason}`);
