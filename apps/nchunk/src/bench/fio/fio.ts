import { spawn } from "node:child_process";
import { NchunkError } from "../../errors";
import { jobFile, type FioConfiguration, type FioJob, type FioTarget } from "./job-file";
import { parseFioOutput, randomThroughput, throughput, type FioResult } from "./parse-output";

/** The end of what fio said is enough to understand a failure. */
const SHOWN_OUTPUT_CHARACTERS = 600;

/** A fio that runs here. */
export class Fio {
  constructor(
    readonly version: string,
    readonly engines: ReadonlySet<string>,
  ) {}

  /**
   * Runs `jobs` one after the other in one process, in the folder of the file they read. A job that
   * failed has an `error`. Rejects with BENCH_FAILED when fio tells nothing at all, or with the signal's
   * reason; fio has ended by then.
   */
  async run(
    jobs: readonly FioJob[],
    target: FioTarget,
    options: { folder: string; signal: AbortSignal },
  ): Promise<FioResult[]> {
    options.signal.throwIfAborted();
    const { stdout, stderr } = await feed(jobFile(jobs, target), options);
    options.signal.throwIfAborted();
    try {
      return parseFioOutput(stdout);
    } catch (cause) {
      const said = `${stderr}\n${stdout}`.trim().slice(-SHOWN_OUTPUT_CHARACTERS);
      throw new NchunkError("BENCH_FAILED", `fio ended without a result: ${said}`, { cause });
    }
  }

  /**
   * For each contest, which of its candidates reads fastest in one short run each; undefined where none works
   * here. All in one process: starting fio takes longer than such a run.
   */
  async bestOfEach(
    contests: readonly Contest[],
    target: FioTarget,
    options: { folder: string; signal: AbortSignal },
  ): Promise<(FioConfiguration | undefined)[]> {
    const entries = contests.flatMap(({ candidates, work }, contest) =>
      candidates
        .filter(({ engine }) => this.engines.has(engine))
        .map((configuration, i) => ({ contest, name: `${contest}.${i}`, configuration, work })),
    );
    if (entries.length === 0) return contests.map(() => undefined);
    const results = await this.run(entries, target, options);
    const byName = new Map(results.map((result) => [result.name, result]));
    const rateOf = ({ name, work }: FioJob): number => {
      const result = byName.get(name);
      if (!result) return 0;
      return "sizeBytes" in work ? randomThroughput(result, work.sizeBytes) : throughput(result);
    };
    return contests.map((_, contest) => {
      const own = entries.filter((entry) => entry.contest === contest);
      const fastest = own.reduce<FioJob | undefined>(
        (best, entry) => (best === undefined || rateOf(entry) > rateOf(best) ? entry : best),
        undefined,
      );
      return fastest && rateOf(fastest) > 0 ? fastest.configuration : undefined;
    });
  }
}

/** Ways to do one thing. */
export interface Contest {
  readonly candidates: readonly FioConfiguration[];
  readonly work: FioJob["work"];
}

/** Lets fio's buffers lie in huge pages, as our landing memory does, where the C library is glibc. */
const HUGE_PAGES = { GLIBC_TUNABLES: "glibc.malloc.hugetlb=1" };

/** Gives fio the job file on its standard input. */
function feed(
  jobs: string,
  options: { folder: string; signal: AbortSignal },
): Promise<{ stdout: string; stderr: string }> {
  const { folder, signal } = options;
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...HUGE_PAGES };
    const child = spawn("fio", ["--output-format=json", "-"], { cwd: folder, stdio: "pipe", env });
    // fio's threads end with it; nothing it does needs a graceful end.
    const stop = (): boolean => child.kill("SIGKILL");
    signal.addEventListener("abort", stop, { once: true });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    child.on("error", reject);
    child.on("close", () => {
      signal.removeEventListener("abort", stop);
      resolve({ stdout, stderr });
    });
    // A fio that ends at once closes its input; what it said tells why.
    child.stdin.on("error", () => undefined);
    child.stdin.end(jobs);
  });
}
