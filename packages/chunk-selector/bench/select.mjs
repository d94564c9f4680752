// Time of one selection by policy and shape, single-threaded, after warm-up: `node bench/select.mjs [rounds]`.
// Rounds alternate the policies, so that a change in the machine's load meets them all. `sort all` is the
// obvious way to write topk (sort indices by a comparator), as a baseline.
import { createSelector } from "@neuron-chunking/chunk-selector";
import { LatencyTable, simulatedDevice } from "@neuron-chunking/latency-model";

const SHAPES = [
  { name: "down, 7B", rows: 18944, rowBytes: 7168 },
  { name: "q+k+v, 7B", rows: 3584, rowBytes: 9216 },
  { name: "gate+up, 7B", rows: 3584, rowBytes: 75776 },
  { name: "down, 0.5B", rows: 4864, rowBytes: 1792 },
  { name: "o, 0.5B", rows: 896, rowBytes: 1792 },
  { name: "gate+up, 0.5B", rows: 896, rowBytes: 19456 },
];
const POLICIES = ["topk", "threshold", "chunk", "lagrange"];
const KEPT = 0.5;
const rounds = Number(process.argv[2] ?? 200);
const warmUpRounds = Math.min(30, rounds);
const table = new LatencyTable(simulatedDevice("orin-agx"));

/** Log-normal importances of coefficient of variation about 1.3, seeded, in no particular order. */
function importances(rows) {
  let state = 12345;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 1) / 2 ** 32;
  };
  const sample = () =>
    Math.exp(Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
  return Float32Array.from({ length: rows }, sample);
}

function sortAll({ importance, budgetRows }) {
  const order = Array.from(importance.keys()).sort((a, b) => importance[b] - importance[a]);
  return order.slice(0, budgetRows).sort((a, b) => a - b);
}

function summary(times) {
  times.sort((a, b) => a - b);
  const at = (share) => times[Math.min(times.length - 1, Math.floor(share * times.length))] / 1e3;
  return `min ${at(0).toFixed(0)} median ${at(0.5).toFixed(0)} p90 ${at(0.9).toFixed(0)}`;
}

for (const { name, rows, rowBytes } of SHAPES) {
  const importance = importances(rows);
  const threshold = importance.toSorted()[Math.floor((1 - KEPT) * rows)];
  const request = {
    importance,
    rows,
    rowBytes,
    budgetRows: Math.round(KEPT * rows),
    threshold,
    table,
  };
  const runs = POLICIES.map((policy) => {
    const selector = createSelector(policy, { maxRows: rows });
    return { policy, times: [], run: () => selector.select(request) };
  });
  runs.unshift({ policy: "sort all", times: [], run: () => sortAll(request) });
  for (let round = -warmUpRounds; round < rounds; round++) {
    for (const { run, times } of runs) {
      const start = process.hrtime.bigint();
      run();
      const elapsedNs = Number(process.hrtime.bigint() - start);
      if (round >= 0) times.push(elapsedNs);
    }
  }
  console.log(`${name}: ${rows} rows x ${rowBytes} B, ${KEPT * 100} % kept (microseconds)`);
  for (const { policy, times } of runs) console.log(`  ${policy.padEnd(10)} ${summary(times)}`);
}
