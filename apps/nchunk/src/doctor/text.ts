import type { Diagnosis, Finding, Status } from "./finding";

const MARKS: Record<Status, string> = { ok: "✓", warn: "!", fail: "✗" };
const DEFAULT_COLUMNS = 100;
const LEAST_COLUMNS = 60;
const LABELS = { cost: "costs: ", remedy: "do: " };

/** Breaks at blanks; a word longer than a line stands alone. */
function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

function describe(finding: Finding, titleColumns: number, columns: number): string[] {
  const indent = " ".repeat(2 + titleColumns + 2);
  const room = columns - indent.length;
  const body = [
    ...wrap(finding.value, room),
    ...(finding.cost ? wrap(LABELS.cost + finding.cost, room) : []),
    ...(finding.remedy ? wrap(LABELS.remedy + finding.remedy, room) : []),
  ];
  const head = `${MARKS[finding.status]} ${finding.title.padEnd(titleColumns)}  `;
  return body.map((line, i) => (i === 0 ? head : indent) + line);
}

/** One line: whether the main job can run, and what stands in the way or costs. */
export function verdict({ ok, findings }: Diagnosis): string {
  const titles = (status: Status): string =>
    findings
      .filter((finding) => finding.status === status)
      .map(({ title }) => title.toLowerCase().replace("i/o", "I/O"))
      .join(", ");
  if (!ok) return `nchunk cannot run here: ${titles("fail")}.`;
  const costs = titles("warn");
  return costs === ""
    ? "nchunk can run here, and nothing is missing."
    : `nchunk can run here; it would do better with other: ${costs}.`;
}

/** The findings as an aligned list with a mark each, and the verdict. */
export function describeDiagnosis(diagnosis: Diagnosis, terminalColumns?: number): string {
  const columns = Math.max(LEAST_COLUMNS, terminalColumns ?? DEFAULT_COLUMNS);
  const titleColumns = Math.max(...diagnosis.findings.map(({ title }) => title.length));
  const lines = diagnosis.findings.flatMap((finding) => describe(finding, titleColumns, columns));
  return [...lines, "", verdict(diagnosis)].join("\n");
}
