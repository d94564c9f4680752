import { formatBytes, formatNs, formatPercent, formatTable } from "../../terminal/format";
import type { Noise } from "../statistics-of-rounds";
import type { MixedCase } from "./mixed-section";
import type { RandomCase } from "./random-section";
import type { ReaderReport } from "./report";

const ABSENT = "-";

const ratio = (value: number | null | undefined): string => value?.toFixed(3) ?? ABSENT;
const time = (ns: number | null | undefined): string =>
  ns === null || ns === undefined ? ABSENT : formatNs(ns);
const share = (value: number | null): string => (value === null ? ABSENT : formatPercent(value));
const rate = (bytes: number, ns: number): string => `${((bytes / ns) * 1e3).toFixed(0)} MB/s`;

function randomTable(report: ReaderReport): string {
  const random = report.cases.filter((one): one is RandomCase => one.kind === "random");
  const others = Object.keys(random[0]?.backends ?? {});
  const rows = random.map((one) => {
    const baseline = report.baselines.find(({ sizeBytes }) => sizeBytes === one.sizeBytes);
    return [
      formatBytes(one.sizeBytes),
      time(one.readerNs),
      rate(one.sizeBytes, one.readerNs),
      time(one.fioNs),
      ratio(one.ratioToFio),
      ...others.map((name) => time(one.backends[name].readerNs)),
      time(baseline?.fsPromisesNs),
      time(baseline?.fsReadNs),
      one.fio ?? ABSENT,
    ];
  });
  const head = ["read size", "ours", "", "fio", "ours : fio", ...others];
  return formatTable([...head, "fs.promises", "fs.read", "fio's best"], rows);
}

function mixedTable(report: ReaderReport): string {
  const mixed = report.cases.filter((one): one is MixedCase => one.kind === "mixed");
  const rows = mixed.map((one) => [
    `${one.policy}, ${Math.round(one.keep * 100)} % of rows of ${one.rowBytes} B`,
    String(one.chunks),
    String(one.requests),
    formatBytes(one.bytesWanted),
    formatBytes(one.bytesRead),
    time(one.readerNs),
    time(one.fioNs),
    ratio(one.ratioToFio),
    one.fio ?? ABSENT,
  ]);
  const head = ["rows kept", "ranges", "requests", "wanted", "read", "ours", "fio", "ours : fio"];
  return formatTable([...head, "fio's best"], rows);
}

const noiseLine = (
  title: string,
  rounds: number,
  { ratioSpread, worstRatioSpread }: Noise,
): string =>
  `${title}: ${rounds} ${rounds === 1 ? "round" : "rounds"}; the ratios of one case lie ${share(ratioSpread)} apart in the median, ${share(worstRatioSpread)} at worst.`;

/** The report for people. */
export function describeReader(report: ReaderReport): string {
  const { reader, summary, eventLoop, allocation } = report;
  const { random, mixed } = summary.noise;
  const refused = Object.entries(reader.refused).map(([name, why]) => `Without ${name}: ${why}`);
  return [
    `Reader: ${reader.tier}, on ${report.profile.name}. Compared with: ${report.fioVersion ?? "nothing"}.`,
    ...refused,
    "",
    'Random reads, time per read. "ours : fio" is our throughput over fio\'s: above 1 when ours is faster.',
    randomTable(report),
    "",
    "The rows that selections keep of a matrix, scattered as they are:",
    mixedTable(report),
    "",
    `Random reads over fio: ${ratio(summary.medianRatio)} in the median, ${ratio(summary.minRatio)} at worst. ` +
      `Mixed plans: ${ratio(summary.mixedMedianRatio)} and ${ratio(summary.mixedMinRatio)}. ` +
      `Pool over io_uring from 64 KiB on: ${ratio(summary.poolToUring.min)} at worst.`,
    noiseLine("Random reads", summary.randomRounds, random),
    noiseLine("Mixed plans", summary.mixedRounds, mixed),
    `Event loop during ${eventLoop.batches} batches of ${eventLoop.readsPerBatch} reads: an event from another thread waits ${formatNs(eventLoop.medianNs)} in the median, less than ${formatNs(eventLoop.p99Ns)} in 99 % of cases (while nothing is read: ${formatNs(eventLoop.idleP99Ns)}).`,
    `Memory after ${allocation.batches} batches: heap ${signed(allocation.heapGrowthBytes)}, external ${signed(allocation.externalGrowthBytes)}, resident ${signed(allocation.rssGrowthBytes)}.`,
    `Checked against the file's known content: ${report.verifiedRanges} ranges, all right.`,
    ...report.notes,
  ].join("\n");
}

const signed = (bytes: number): string => `${bytes < 0 ? "-" : "+"}${formatBytes(Math.abs(bytes))}`;
