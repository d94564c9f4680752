import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import {
  parseDeviceProfile,
  simulatedDevice,
  SIMULATED_DEVICES,
  type DeviceProfile,
} from "@neuron-chunking/latency-model";
import { parseHTML } from "linkedom";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  byteTicks,
  decadeTicks,
  formatByteTick,
  formatRateTick,
  formatTimeTick,
} from "../src/html-page/chart";
import { latencyAt, samplePoints } from "../src/profile-report/curves";
import { requireWritable, writeText } from "../src/html-page/output-file";
import { renderProfilePage } from "../src/profile-report/page";
import { describeProfile, plotThroughput } from "../src/profile-report/terminal";
import { noiseInWords, tuningInWords, validationInWords } from "../src/profile-report/words";
import { progressBar } from "../src/terminal/progress";
import { nchunk } from "./support/cli";
import { fullProfile } from "./support/full-profile";

const CHARTS = ["throughput", "latency", "fit", "residuals", "rounds", "depth", "validation"];
const MOST_PAGE_BYTES = 2 * 2 ** 20;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-profile-test-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The smallest profile that is valid: one size and nothing optional. */
const bareProfile = (): DeviceProfile =>
  parseDeviceProfile({
    schemaVersion: 1,
    name: "bare",
    origin: "modelled",
    source: "a test",
    table: { sizesBytes: [4096], latencyNs: [1000] },
    saturationBytes: 4096,
    tailNsPerByte: 0.25,
  });

function sectionsOf(page: string): Map<string, Element> {
  const { document } = parseHTML(page) as unknown as { document: Document };
  return new Map([...document.querySelectorAll("section.chart")].map((node) => [node.id, node]));
}
type Document = { querySelectorAll(selector: string): Iterable<Element> };
interface Element {
  readonly id: string;
  readonly textContent: string;
  querySelectorAll(selector: string): Iterable<Element> & { readonly length: number };
}

describe("P3, P5: the page", () => {
  it("has one chart in each section, and every measurement in one of them", () => {
    const profile = fullProfile();
    const sections = sectionsOf(renderProfilePage(profile));
    expect([...sections.keys()]).toEqual(CHARTS);
    for (const section of sections.values()) {
      expect(section.querySelectorAll("svg")).toHaveLength(1);
      expect(section.textContent).not.toContain("not measured");
    }
    const dots = (id: string) =>
      sections.get(id)?.querySelectorAll('[aria-label="dot"] :is(path, circle)').length;
    const raw = (profile.samples ?? []).reduce((sum, { latencyNs }) => sum + latencyNs.length, 0);
    expect(dots("fit")).toBe(raw);
    expect(dots("residuals")).toBe(raw);
    expect(dots("throughput")).toBe(2 * profile.table.sizesBytes.length);
    expect(dots("validation")).toBe(2 * (profile.validation?.masks.length ?? 0));
    const sweeps = (profile.queue ?? []).reduce((sum, { depths }) => sum + depths.length, 0);
    expect(dots("depth")).toBe(sweeps);
    const bars = sections.get("rounds")?.querySelectorAll('[aria-label="bar"] > rect').length;
    expect(bars).toBe(profile.rounds?.length);
  });

  it("says of every missing part that it was not measured", () => {
    const without = (...parts: string[]) =>
      sectionsOf(
        renderProfilePage(fullProfile(Object.fromEntries(parts.map((part) => [part, undefined])))),
      );
    const missing = (sections: Map<string, Element>) =>
      [...sections.values()]
        .filter((section) => section.querySelectorAll("p.missing").length > 0)
        .map(({ id }) => id);
    expect(missing(without("samples"))).toEqual(["fit", "residuals"]);
    expect(missing(without("rounds"))).toEqual(["rounds"]);
    expect(missing(without("queue"))).toEqual(["depth"]);
    expect(missing(without("validation"))).toEqual(["validation"]);
    expect(missing(without("backends", "reader", "device", "noise", "batchModel"))).toEqual([]);
    expect(missing(sectionsOf(renderProfilePage(bareProfile())))).toEqual(CHARTS.slice(2));
    const empty = { samples: [], backends: [], queue: [], rounds: [] };
    expect(missing(sectionsOf(renderProfilePage(fullProfile(empty))))).toEqual([
      "fit",
      "residuals",
      "rounds",
      "depth",
    ]);
  });

  it.each(SIMULATED_DEVICES)("draws the simulated %s", (name) => {
    expect(renderProfilePage(simulatedDevice(name))).toContain("<svg");
  });

  it("asks nothing of a network, runs no script and stays small", () => {
    const page = renderProfilePage(fullProfile());
    expect(page.replace(/ xmlns(:\w+)?="[^"]*"/g, "")).not.toMatch(/https?:|\bsrc=|@import|url\(/);
    expect(page).not.toContain("<script");
    expect(page).toContain("default-src 'none'");
    expect(page).toContain("prefers-color-scheme: dark");
    expect(Buffer.byteLength(page)).toBeLessThan(MOST_PAGE_BYTES);
    expect(page).not.toMatch(/NaN|undefined|\[object/);
  });

  it("bears one size, one depth, one round and one mask", () => {
    const one = { sizesBytes: [4096], latencyNs: [1000] };
    const mask = { rowBytes: 1, kind: "random", chunks: 1, bytes: 1, measuredNs: 9, sumNs: 9 };
    const quality = { r2: 1, mape: 0 };
    const page = renderProfilePage(
      fullProfile({
        table: one,
        saturationBytes: 4096,
        backends: undefined,
        samples: [{ sizeBytes: 4096, latencyNs: [1000] }],
        queue: [{ backend: "pool", sizeBytes: 4096, depths: [4], latencyNs: [1000] }],
        rounds: [{ deviation: 0, flagged: false, rejected: false }],
        validation: { masks: [{ ...mask, batchNs: 9 }], sum: quality, batch: quality },
      }),
    );
    expect(page).not.toMatch(/NaN|Infinity/);
    for (const section of sectionsOf(page).values()) {
      expect(section.querySelectorAll("svg")).toHaveLength(1);
    }
  });

  it("P3: shows residuals in percent, and as factors when some are far from the fit", () => {
    const residuals = (latencyNs: number[]) =>
      sectionsOf(renderProfilePage(fullProfile({ samples: [{ sizeBytes: 4096, latencyNs }] }))).get(
        "residuals",
      )?.textContent;
    const fitted = latencyAt(fullProfile().table, 4096);
    expect(residuals([fitted * 0.97, fitted * 1.02])).toContain("fit, %");
    expect(residuals([fitted * 0.97, fitted * 40])).toMatch(/multiple of the fit|×10/);
  });

  it("takes hostile names for what they are: text", () => {
    const hostile = `</title><script>alert(1)</script><img src=x onerror="a" '&amp;`;
    const page = renderProfilePage(
      fullProfile({
        name: hostile,
        source: hostile,
        key: hostile,
        device: { model: hostile, [hostile]: hostile },
        backends: [{ name: hostile, table: fullProfile().table }],
        queue: [{ backend: hostile, sizeBytes: 4096, depths: [1, 2], latencyNs: [2000, 1000] }],
      }),
    );
    expect(page).not.toMatch(/<script|<img/);
    expect(sectionsOf(page).size).toBe(CHARTS.length);
    const { document } = parseHTML(page) as unknown as { document: Document };
    expect([...document.querySelectorAll("h1")][0].textContent).toBe(`Device profile: ${hostile}`);
    expect([...document.querySelectorAll("[onerror], script, img")]).toEqual([]);
  });

  it("has ticks at round numbers with units", () => {
    expect(byteTicks([1024, 2 ** 20]).map(formatByteTick)).toEqual([
      "1 KiB",
      "4 KiB",
      "16 KiB",
      "64 KiB",
      "256 KiB",
      "1 MiB",
    ]);
    expect(decadeTicks([2_500, 180_000]).map(formatTimeTick)).toEqual([
      "3 µs",
      "10 µs",
      "30 µs",
      "100 µs",
    ]);
    expect(decadeTicks([1e6, 1e10]).map(formatRateTick)).toEqual([
      "1 MB/s",
      "10 MB/s",
      "100 MB/s",
      "1 GB/s",
      "10 GB/s",
    ]);
    expect(formatTimeTick(2.5e9)).toBe("2.5 s");
    expect(formatTimeTick(15)).toBe("15 ns");
  });

  it("finds residuals relative to the fit, between its sizes too", () => {
    expect(latencyAt({ sizesBytes: [1000, 3000], latencyNs: [10, 30] }, 2000)).toBe(20);
    expect(latencyAt({ sizesBytes: [1000, 3000], latencyNs: [10, 30] }, 9000)).toBe(30);
    const [point] = samplePoints(
      fullProfile({
        table: { sizesBytes: [4096, 8192], latencyNs: [1000, 1500] },
        saturationBytes: 8192,
        samples: [{ sizeBytes: 4096, latencyNs: [1100] }],
      }),
    );
    expect(point.residual).toBeCloseTo(0.1, 12);
  });
});

describe("P3, P5: the report in a terminal", () => {
  it("shows table, plot, tuning, noise and validation", () => {
    const report = describeProfile(fullProfile(), 80);
    expect(report).toContain("Example SSD 990, ext4");
    expect(report).toMatch(/read size\s+│\s+time per read\s+│\s+throughput\s+│\s+by pool/);
    expect(report).toMatch(/64\.0 KiB\s+│\s+10\.5 µs\s+│\s+6250 MB\/s/);
    expect(report).toContain("Throughput (MB/s) over read size (bytes), io_uring");
    expect(report).toMatch(/1K\s+4K\s+16K\s+64K\s+256K\s+1M/);
    expect(report).toContain(
      "io_uring, up to 64 requests and at most 8.0 MiB in flight, refilled 16",
    );
    expect(report).toContain(
      "reads over 512.0 KiB are split; gaps of up to 6.0 KiB are read through",
    );
    expect(report).toContain("A little noisy");
    expect(report).toContain("flagged for deviating: 1, rejected and repeated: 1");
    expect(report).toContain("R² 0.987, mean error 4.1 %");
    const plotted = plotThroughput(fullProfile(), 80).split("\n");
    expect(Math.max(...plotted.map((line) => line.length))).toBeLessThanOrEqual(80);
  });

  it("says what was not measured, and draws no plot of one size", () => {
    const report = describeProfile(bareProfile());
    expect(report).toContain("not measured; the reader's defaults apply");
    expect(report).toContain("Noise:      not measured");
    expect(report).toContain("Validation: not measured");
    expect(plotThroughput(bareProfile())).toBe("");
    for (const name of SIMULATED_DEVICES) {
      expect(plotThroughput(simulatedDevice(name), 40).length).toBeGreaterThan(100);
    }
  });

  it("words a pool, no reading through, and quiet or wild measurements", () => {
    const reader = fullProfile().reader;
    const pool = fullProfile({
      reader: { ...reader, tuning: { ...reader?.tuning, backend: "pool", readThroughBytes: 0 } },
    });
    expect(tuningInWords(pool)).toMatch(/^a pool of 8 threads, .*no gap is read through\.$/);
    const words = (relativeSpread: number) =>
      noiseInWords(fullProfile({ noise: { relativeSpread }, rounds: undefined }));
    expect([0.01, 0.03, 0.1, 0.4].map((spread) => words(spread).split(":")[0])).toEqual([
      "Quiet",
      "A little noisy",
      "Noisy",
      "Very noisy",
    ]);
    const none = { masks: [], sum: { r2: 1, mape: 0 }, batch: { r2: 1, mape: 0 } };
    expect(validationInWords(fullProfile({ validation: none }))).toBe("not measured.");
  });
});

describe("progress", () => {
  it.each([
    [-1, 0],
    [0, 0],
    [0.5, 10],
    [0.999, 19],
    [1, 20],
    [2, 20],
  ])("of %s fills %s of 20 cells", (fraction, full) => {
    expect(progressBar(fraction)).toBe("█".repeat(full) + "░".repeat(20 - full));
  });
});

describe("files", () => {
  it("are written whole or not at all", async () => {
    const file = path.join(folder, "page.html");
    await requireWritable(file);
    expect(await readdir(folder)).toEqual([]);
    await writeText(file, "old");
    await writeText(file, "new");
    expect(await readFile(file, "utf8")).toBe("new");
    await expect(writeText(folder, "x")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await readdir(folder)).toEqual(["page.html"]);
    await rm(file);
  });

  it("that cannot be written are errors before anything is measured", async () => {
    const blocker = path.join(folder, "blocker");
    await writeFile(blocker, "x");
    const cache = path.join(folder, "cache");
    const wrong = ["/nowhere/at/all/page.html", path.join(blocker, "page.html"), folder];
    for (const file of wrong) {
      for (const option of ["--html", "--out"]) {
        const args = ["profile", option, file, "--json"];
        const { status, stdout } = await nchunk(args, { NCHUNK_CACHE_DIR: cache });
        expect(status).toBe(1);
        expect(JSON.parse(stdout)).toMatchObject({
          error: {
            code: "INVALID_ARGUMENT",
            message: expect.stringContaining("cannot be written") as string,
          },
        });
      }
    }
    const same = ["profile", "--out", "/tmp/x.json", "--html", "/tmp/x.json"];
    expect((await nchunk(same, { NCHUNK_CACHE_DIR: cache })).stderr).toContain("give two files");
    // Measuring would have made it.
    expect(await readdir(folder)).toEqual(["blocker"]);
    await rm(blocker);
  });

  it("P3: a measured profile is written as JSON and as a page, and told to people", async () => {
    const out = path.join(folder, "profile.json");
    const html = path.join(folder, "profile.html");
    const { status, stdout, stderr } = await nchunk(["profile", "--out", out, "--html", html]);
    expect(stderr).not.toContain("Error");
    expect(status).toBe(0);
    const profile = parseDeviceProfile(JSON.parse(await readFile(out, "utf8")));
    expect(profile.origin).toBe("measured");
    const page = await readFile(html, "utf8");
    expect(sectionsOf(page).get("fit")?.querySelectorAll("svg")).toHaveLength(1);
    expect(stdout).toContain(describeProfile(profile).split("\n").pop());
    expect((await readdir(folder)).sort()).toEqual(["profile.html", "profile.json"]);
  });
});
