/**
 * How well a projection hides the shorter of reading and multiplying under the longer:
 *
 *     node packages/vlm-executor/bench/overlap.mjs [--size 0.5b|7b] [--rounds 15] [--tokens 1,16,196] [--policies dense,...]
 *         [--shapes attn_in,...] [--threads 2] [--arithmetic f32|reduced] [--backend io_uring|pool] [--profile <file>] [--json]
 *
 * Each round takes one plan of half of the rows of a matrix of random bytes, in turning order: read alone (the whole plan
 * in one call), multiplied alone (the whole plan, landed), both at once on memory of their own, neither waiting for the
 * other, and both as the executor does it. Selection is not in the times. The ratio of a case is `both / max(read,
 * multiply)`, of medians over the rounds and of lower deciles, which are nearer to the truth where other programs run; `floor`
 * is the same of the two at once: what the machine makes of them when nothing has to be waited for.
 */
import { open, readFile, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { runnerImport } from "vite";
import { budgetRows, createSelector } from "@neuron-chunking/chunk-selector";
import { FlashReader } from "@neuron-chunking/flash-reader";
import { requestTable, simulatedDevice } from "@neuron-chunking/latency-model";

const source = async (path) =>
  (await runnerImport(fileURLToPath(new URL(`../src/${path}`, import.meta.url)))).module;
const { ChunkedLinear } = await source("chunked-linear.ts");
const { CpuBackend } = await source("backend/cpu-backend.ts");
const { LANDING_PARTS, landingCapacityBytes, PlanSlicer } = await source("plan-slices.ts");
const { PlanReads } = await source("plan-reads.ts");
const { RowSupply } = await source("row-supply.ts");

/** LLaVA-OneVision's Qwen2 decoders, bf16: [rows, columns] of each bundle. */
const SHAPES = {
  "0.5b": { attn_in: [896, 1152], attn_out: [896, 896], mlp_in: [896, 9728], mlp_out: [4864, 896] },
  "7b": {
    attn_in: [3584, 4608],
    attn_out: [3584, 3584],
    mlp_in: [3584, 37888],
    mlp_out: [18944, 3584],
  },
};
const LANDING_BYTES = 64 * 2 ** 20;
const SPARSITY = 0.5;
const WARM_UP_ROUNDS = 200;

const { values: options } = parseArgs({
  options: {
    size: { type: "string", default: "0.5b" },
    rounds: { type: "string", default: "15" },
    tokens: { type: "string", default: "1,16,196" },
    policies: { type: "string", default: "dense,topk,chunk,lagrange" },
    shapes: { type: "string" },
    threads: { type: "string" },
    arithmetic: { type: "string", default: "f32" },
    backend: { type: "string", default: "auto" },
    profile: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

/** A file of finite bf16 values that is really on the disk. */
async function writeWeights(path, bytes) {
  if ((await stat(path).catch(() => null))?.size >= bytes) return;
  const file = await open(path, "w");
  const block = new Uint16Array(2 ** 20);
  for (let done = 0; done < bytes; done += block.byteLength) {
    // Sign and mantissa at random, exponents around 2^-6.
    for (let i = 0; i < block.length; i++) {
      const random = (Math.random() * 65536) | 0;
      block[i] = (random & 0x80ff) | 0x3c00;
    }
    await file.write(block);
  }
  await file.sync();
  await file.close();
}

/** Importance of reordered channels: falling, with noise. */
function importanceOf(rows) {
  const noise = () =>
    Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return Float32Array.from({ length: rows }, (_, i) => Math.exp(0.7 * noise() - (1.5 * i) / rows));
}

function planFor(policy, rows, rowBytes, table) {
  const selector = createSelector(policy, { maxRows: rows });
  const count = budgetRows(rows, SPARSITY);
  const asked = policy === "lagrange" ? { matchTopkRows: count } : { budgetRows: count };
  const plan = selector.select({ importance: importanceOf(rows), rows, rowBytes, table, ...asked });
  return {
    starts: plan.starts.slice(),
    lengths: plan.lengths.slice(),
    chunkCount: plan.chunkCount,
  };
}

const quantile = (values, share) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length * share)];
};
const median = (values) => quantile(values, 0.5);
const timed = async (work) => {
  const start = process.hrtime.bigint();
  await work();
  return Number(process.hrtime.bigint() - start);
};

/** Times of each way, ns, in turning order; once before, untimed. */
async function alternate(ways, rounds, afterWarmUp) {
  const names = Object.keys(ways);
  const times = Object.fromEntries(names.map((name) => [name, []]));
  for (const name of names) await ways[name]();
  afterWarmUp();
  for (let round = 0; round < rounds; round++) {
    for (let k = 0; k < names.length; k++) {
      const name = names[(round + k) % names.length];
      times[name].push(await timed(ways[name]));
    }
  }
  return times;
}

async function measure(
  { reader, backend, table, streaming, whole, other },
  matrix,
  policy,
  tokens,
  rounds,
) {
  const { rows, columns, rowBytes } = matrix;
  const info = { ...matrix, dtype: "bf16", layer: 0, offsetBytes: 0, parts: [{ columns }] };
  const plan = planFor(policy, rows, rowBytes, table);
  const linear = new ChunkedLinear(streaming, info, null);
  const x = backend.createTensor(tokens, rows);
  const y = backend.createTensor(tokens, columns);
  backend.write(
    Float32Array.from({ length: tokens * rows }, () => Math.random() - 0.5),
    x,
    0,
  );
  const layout = { baseOffsetBytes: 0, rowBytes };
  const read = () => reader.readPlan(plan, layout, { into: whole });
  const landed = await read();
  const chunks = {
    ...plan,
    bytes: landed.bytes,
    offsetsBytes: landed.viewOffsetsBytes,
    rowBytes,
    columns,
    dtype: "bf16",
  };
  const rowsOf = { usesImportance: () => false, choose: () => ({ plan }) };
  const traces = [];
  const multiply = () => backend.chunkedMatmul(x, chunks, y, false);
  const elsewhere = () => reader.readPlan(plan, layout, { into: other });
  const ways = {
    io: read,
    compute: multiply,
    beside: () => Promise.all([elsewhere(), multiply()]),
    both: () =>
      linear.forward(x, y, false, { signal: undefined, projections: traces, rows: rowsOf }),
  };
  const times = await alternate(ways, rounds, () => (traces.length = 0));
  const ratioAt = (way, share) =>
    quantile(times[way], share) /
    Math.max(quantile(times.io, share), quantile(times.compute, share));
  return {
    policy,
    shape: matrix.name,
    tokens,
    chunks: plan.chunkCount,
    bytesWanted: landed.bytesWanted,
    requests: landed.requests,
    ioNs: median(times.io),
    computeNs: median(times.compute),
    besideNs: median(times.beside),
    bothNs: median(times.both),
    readNs: median(traces.map((trace) => trace.readNs)),
    multiplyNs: median(traces.map((trace) => trace.computeNs)),
    stallNs: median(traces.map((trace) => trace.stallNs)),
    floor: ratioAt("beside", 0.5),
    ratio: ratioAt("both", 0.5),
    quietRatio: ratioAt("both", 0.1),
  };
}

const shapes = Object.entries(SHAPES[options.size]).filter(
  ([name]) => options.shapes === undefined || options.shapes.split(",").includes(name),
);
const list = shapes.map(([name, [rows, columns]]) => ({
  name,
  rows,
  columns,
  rowBytes: 2 * columns,
}));
const path = join(process.env.NCHUNK_CACHE_DIR ?? tmpdir(), `overlap-${options.size}.bin`);
const largest = Math.max(...list.map(({ rows, rowBytes }) => rows * rowBytes));
await writeWeights(path, largest);
const profile =
  options.profile === undefined
    ? simulatedDevice("nvme-gen4")
    : JSON.parse(await readFile(options.profile, "utf8"));
const tuning = options.profile === undefined ? undefined : profile.reader?.tuning;
const reader = await FlashReader.open(path, {
  directIo: "required",
  backend: options.backend,
  ...(tuning === undefined ? {} : { tuning }),
});
const backend = new CpuBackend(
  options.threads === undefined ? undefined : Number(options.threads),
  options.arithmetic,
);
const table = requestTable(profile);
const overhead = 2 * reader.alignmentBytes;
const capacity = landingCapacityBytes(list, LANDING_BYTES, overhead);
const reads = new PlanReads(
  reader,
  new PlanSlicer(Math.max(...list.map(({ rows }) => rows)), capacity, overhead),
  reader.allocateParts(LANDING_PARTS, capacity),
  backend,
);
const supply = new RowSupply(reads, Math.max(...list.map(({ rows }) => rows)));
const streaming = { backend, table, rows: null, reads: supply, prefixes: new Map() };
const whole = reader.allocate(2 * largest);
const other = reader.allocate(2 * largest);
const tools = { reader, backend, table, streaming, whole, other };
// A token runs this code a hundred times: what is measured is what V8 has compiled.
const [smallest] = [...list].sort((a, b) => a.rows * a.rowBytes - b.rows * b.rowBytes);
await measure(tools, smallest, "dense", 1, WARM_UP_ROUNDS);

const cases = [];
console.error(
  `${options.size}: ${backend.description}, ${reader.backend.active ?? reader.backend.name}`,
);
for (const matrix of list) {
  for (const policy of options.policies.split(",")) {
    for (const tokens of options.tokens.split(",").map(Number)) {
      const result = await measure(tools, matrix, policy, tokens, Number(options.rounds));
      cases.push(result);
      const ms = (ns) => (ns / 1e6).toFixed(2).padStart(8);
      if (!options.json) {
        console.log(
          `${matrix.name.padEnd(9)} ${policy.padEnd(9)} T=${String(tokens).padEnd(4)} chunks ${String(result.chunks).padStart(5)} io ${ms(result.ioNs)} compute ${ms(result.computeNs)} beside ${ms(result.besideNs)} both ${ms(result.bothNs)} stall ${ms(result.stallNs)} multiply ${ms(result.multiplyNs)} floor ${result.floor.toFixed(2)} ratio ${result.ratio.toFixed(2)} quiet ${result.quietRatio.toFixed(2)}`,
        );
      }
    }
  }
}
for (const tokens of new Set(cases.map((c) => c.tokens))) {
  const here = cases.filter((c) => c.tokens === tokens);
  const of = (field) => {
    const ratios = here.map((c) => c[field]);
    return `median ${median(ratios).toFixed(3)}, worst ${Math.max(...ratios).toFixed(3)}`;
  };
  console.error(
    `T=${tokens}: ratio ${of("ratio")}; quiet ${of("quietRatio")}; floor ${of("floor")}`,
  );
}
if (options.json) console.log(JSON.stringify({ cases }));
await reader.close();
