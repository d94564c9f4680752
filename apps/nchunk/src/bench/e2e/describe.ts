import { formatBytes, formatNs, formatPercent, formatTable } from "../../terminal/format";
import type { E2eCase, E2eReport, PeerCase } from "./report";

const ABSENT = "-";
const number = (value: number | null, digits = 2): string => value?.toFixed(digits) ?? ABSENT;

function caseRow(one: E2eCase): string[] {
  const perToken = (ns: number): string => formatNs(ns / one.tokens);
  return [
    `${one.phase}, ${one.policy}`,
    String(one.tokens),
    one.tokensPerSecond.toFixed(1),
    perToken(one.wallNs),
    perToken(one.ioNs),
    perToken(one.computeNs),
    perToken(one.selectNs),
    perToken(one.stallNs),
    formatBytes(one.bytesRead / one.tokens),
    formatPercent(one.importanceKept),
    one.overlap.toFixed(2),
    formatBytes(one.peakRssBytes),
  ];
}

const CASE_HEAD = [
  "",
  "tokens",
  "tokens/s",
  "wall",
  "reading",
  "computing",
  "selecting",
  "stalled",
  "read",
];

function caseTable({ cases }: E2eReport): string {
  const phases = [...new Set(cases.map(({ phase }) => phase))];
  const rows = phases.flatMap((phase) => cases.filter((one) => one.phase === phase).map(caseRow));
  return formatTable([...CASE_HEAD, "importance", "overlap", "peak RSS"], rows);
}

const peerRow = (one: PeerCase): string[] => [
  `${formatPercent(one.memoryFraction)} (${formatBytes(one.limitBytes)})`,
  number(one.ours),
  number(one.oursDense),
  number(one.theirs),
  number(one.ratio),
  number(one.ratioDense),
];

function peerSection({ peer, peerSkipped, conditions }: E2eReport): string[] {
  if (peerSkipped !== undefined) return [`Not compared with llama.cpp: ${peerSkipped}`];
  const { peerVersion, readAheadBytes } = conditions;
  const [first] = peer;
  return [
    `${first.model} beside llama.cpp (${peerVersion}, memory-mapped, F16), decoding, tokens/s, cold cache, same control group:`,
    formatTable(
      ["memory", `ours, ${first.policy}`, "ours, dense", "llama.cpp", "times as fast", "dense"],
      peer.map(peerRow),
    ),
    ...readAheadLines(peer, readAheadBytes),
    ...peer.flatMap(({ memoryFraction, reason }) =>
      reason === undefined ? [] : [`At ${formatPercent(memoryFraction)}: ${reason}`],
    ),
  ];
}

/** Linux reads this much ahead unless told otherwise. */
const USUAL_READ_AHEAD_BYTES = 128 * 1024;

function readAheadLines(peer: readonly PeerCase[], systemBytes: number | null): string[] {
  if (systemBytes === null) return [];
  const used = peer.find(({ readAheadBytes }) => readAheadBytes !== null)?.readAheadBytes;
  if (used !== undefined && used !== null && used !== systemBytes) {
    return [
      `The kernel read ${formatBytes(used)} ahead for llama.cpp (--peer-read-ahead); this disk's setting is ${formatBytes(systemBytes)}, as before.`,
    ];
  }
  const usual =
    systemBytes === USUAL_READ_AHEAD_BYTES
      ? "Linux's default"
      : `Linux's default is ${formatBytes(USUAL_READ_AHEAD_BYTES)}`;
  return [
    `The kernel reads ${formatBytes(systemBytes)} ahead on this disk, for llama.cpp; ${usual}.`,
  ];
}

/** The report for people. */
export function describeE2e(report: E2eReport): string {
  const { cases, summary, profile, conditions, note } = report;
  const budget = cases[0]?.budgetBytes ?? 0;
  return [
    `${cases[0]?.model}, random weights, on ${profile.name}, ${conditions.threads} threads, ${conditions.arithmetic} arithmetic; a budget of ${formatBytes(budget)}. Times are per token.`,
    ...(note === "" ? [] : [note]),
    "",
    caseTable(report),
    '"importance" is the share of the inputs\' importance that the rows read hold; "overlap" is wall time over the larger of reading and computing.',
    `Overlap ${number(summary.overlapMedian)} in the median of all passes. Peak memory over budget: ${number(summary.rssToBudgetMax)} at most.`,
    "",
    ...peerSection(report),
    `Load per core: ${conditions.loadPerCore.map((load) => load.toFixed(1)).join(" before, ")} after.`,
  ].join("\n");
}
