import { median } from "../../statistics";
import { formatNs, formatPercent, formatTable } from "../../terminal/format";
import type { IoPolicy } from "./contenders";
import type { Distribution, IoCase, IoReport } from "./report";

/** The paper's headline: Algorithm 1 and reordering over plain top-k, on two Jetsons; a label, and never a result of ours. */
const PAPER_HEADLINE =
  "The paper reports 2.19x on average and 4.65x at best (Orin Nano), 2.89x and 5.76x (AGX Orin), at equal accuracy.";

const times = (value: number): string => `${value.toFixed(2)}x`;

const BARS = [..."▁▂▃▄▅▆▇█"];
const SPARK_CELLS = 24;

/** How many cases have which ratio, from the worst to the best by ratio: one cell per equal step of the logarithm. */
export function sparkline(ratios: readonly number[]): string {
  const least = Math.log(Math.min(...ratios));
  const span = Math.log(Math.max(...ratios)) - least;
  const counts = new Array<number>(SPARK_CELLS).fill(0);
  for (const ratio of ratios) {
    const share = span > 0 ? (Math.log(ratio) - least) / span : 0;
    counts[Math.min(SPARK_CELLS - 1, Math.floor(share * SPARK_CELLS))] += 1;
  }
  const most = Math.max(...counts);
  return counts
    .map((count) => (count === 0 ? " " : BARS[Math.ceil((count / most) * BARS.length) - 1]))
    .join("");
}

const DISTRIBUTION_HEAD = ["mean", "best", "worst", "p10", "p25", "median", "p75", "p90", "slower"];

const distributionCells = (one: Distribution): string[] => [
  times(one.mean),
  times(one.best),
  times(one.worst),
  times(one.quantiles.p10),
  times(one.quantiles.p25),
  times(one.median),
  times(one.quantiles.p75),
  times(one.quantiles.p90),
  `${one.losses} of ${one.cases}`,
];

/** The cases of one matrix under all settings. */
interface MatrixCases {
  readonly first: IoCase;
  readonly of: (policy: IoPolicy, reordered: boolean) => readonly IoCase[];
}

function matricesOf(cases: readonly IoCase[]): MatrixCases[] {
  const names = [...new Set(cases.map(({ bundled, bundle }) => `${bundled} ${bundle}`))];
  return names.map((name) => {
    const own = cases.filter(({ bundled, bundle }) => `${bundled} ${bundle}` === name);
    return {
      first: own[0],
      of: (policy, reordered) =>
        own.filter((one) => one.policy === policy && one.reordered === reordered),
    };
  });
}

const middle = (cases: readonly IoCase[], of: (one: IoCase) => number | null): number =>
  median(cases.map((one) => of(one) ?? 0));

/** Medians over the settings of each matrix, where there are several. */
function modelTable(cases: readonly IoCase[]): string {
  const rows = matricesOf(cases).flatMap(({ first, of }) =>
    [false, true].map((reordered) => {
      const [topk, chunk, lagrange] = (["topk", "chunk", "lagrange"] as const).map((policy) =>
        of(policy, reordered),
      );
      const effect = (policy: readonly IoCase[]): string =>
        reordered ? times(middle(policy, ({ ratioToOriginalOrder }) => ratioToOriginalOrder)) : "";
      return [
        reordered ? "  reordered" : first.bundle,
        reordered ? "" : `${first.rows} x ${first.rowBytes} B`,
        formatPercent(middle(topk, ({ importance }) => importance)),
        formatNs(middle(topk, ({ selectNs, readNs }) => selectNs + readNs)),
        ...[chunk, lagrange].flatMap((policy) => [
          formatNs(middle(policy, ({ selectNs }) => selectNs)),
          times(middle(policy, ({ ratioToTopk }) => ratioToTopk)),
          times(middle(policy, ({ ratioToPlainTopk }) => ratioToPlainTopk)),
        ]),
        ...[topk, chunk, lagrange].map(effect),
      ];
    }),
  );
  const policies = ["chunk", "lagrange"].flatMap((name) => [
    `${name}\nselects in`,
    "over\ntop-k",
    "over\nplain",
  ]);
  const effects = ["topk", "chunk", "lagrange"].map((name) => `reordered:\n${name}`);
  const head = ["matrix", "rows", "importance", "top-k\ntakes", ...policies, ...effects];
  return formatTable(head, rows);
}

function modelSection(model: string, cases: readonly IoCase[]): string[] {
  const spark = (policy: IoPolicy): string => {
    const ratios = cases.filter((one) => one.policy === policy).map((one) => one.ratioToTopk);
    const least = times(Math.min(...ratios));
    return `  ${policy.padEnd(8)} over top-k: ${least} |${sparkline(ratios)}| ${times(Math.max(...ratios))}`;
  };
  return [model, modelTable(cases), spark("chunk"), spark("lagrange"), ""];
}

function summaryTable({ summary }: IoReport): string {
  const { chunk, lagrange, plain, reordering, together, lagrangeOverChunk } = summary;
  const rows: [string, Distribution][] = [
    ["over top-k with gaps read through: chunk", chunk],
    ["  lagrange", lagrange],
    ["  lagrange at a fixed price, in one pass", summary.atPrice.overTopk],
    ["over plain top-k: chunk", plain.chunk],
    ["  lagrange", plain.lagrange],
    ["  lagrange at a fixed price, in one pass", summary.atPrice.overPlainTopk],
    ["  top-k with gaps read through", plain.topk],
    ["reordering alone: top-k", reordering.topk],
    ["  chunk", reordering.chunk],
    ["  lagrange", reordering.lagrange],
    ["reordered, over plain top-k in original order: chunk", together.chunk],
    ["  lagrange", together.lagrange],
    ["  lagrange at a fixed price, in one pass", summary.atPrice.together],
    ["lagrange over chunk", lagrangeOverChunk],
  ];
  return formatTable(
    ["times as fast", ...DISTRIBUTION_HEAD],
    rows.map(([title, distribution]) => [title, ...distributionCells(distribution)]),
  );
}

const share = (value: number | null): string => (value === null ? "-" : formatPercent(value));

/** The report for people. */
export function describeIo(report: IoReport): string {
  const { cases, rounds, noise, profile, reader } = report;
  const models = [...new Set(cases.map(({ model }) => model))];
  return [
    `Reader: ${reader.tier}, on ${profile.name}. Selection and reading at equal importance; "over" is how many times as fast.`,
    '"top-k" reads short gaps through as all policies do here; "plain" top-k does not, and is the paper\'s baseline.',
    'Above 1 is faster. Under "reordered": what hot-cold order alone gains this policy, at equal importance.',
    "",
    ...models.flatMap((model) =>
      modelSection(
        model,
        cases.filter((one) => one.model === model),
      ),
    ),
    "All models:",
    summaryTable(report),
    PAPER_HEADLINE,
    `${rounds.least} to ${rounds.most} rounds; the ratios of one case lie ${share(noise.ratioSpread)} apart in the median, ${share(noise.worstRatioSpread)} at worst.`,
    `Checked against the file's known content: ${report.verifiedRanges} ranges, all right.`,
    ...report.notes,
  ].join("\n");
}
