import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseDeviceProfile } from "@neuron-chunking/latency-model";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  CACHE_DIR,
  CLI,
  fixtureGolden,
  fixtureImage,
  fixtureModel,
  nchunk,
  nchunkJson,
} from "./support/cli";

const MODEL = "llava-tied-f32";

interface Golden {
  cases: {
    prompt: string;
    images: string[];
    videos: string[][];
    grouping: string;
    inputIds: number[];
    greedy?: { ids: number[] };
  }[];
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "nchunk-cli-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const argmax = (row: number[]): number => row.indexOf(Math.max(...row));

describe("logits", () => {
  it("agrees with transformers on the ids of every golden prompt and on the next token", async () => {
    const golden = JSON.parse(await readFile(fixtureGolden(MODEL), "utf8")) as Golden;
    const cases = golden.cases.filter(
      ({ images, videos, grouping, greedy }) =>
        greedy && videos.length === 0 && (images.length < 2 || grouping === "independent"),
    );
    expect(cases.length).toBeGreaterThan(1);
    for (const { prompt, images, inputIds, greedy } of cases) {
      const result = await nchunkJson([
        ...["logits", "--model", fixtureModel(MODEL), "--prompt", prompt],
        ...(images.length > 0 ? ["--image", ...images.map(fixtureImage)] : []),
      ]);
      expect(result["tokenIds"]).toEqual(inputIds);
      const logits = result["logits"] as number[][];
      expect(logits).toHaveLength(1);
      expect(logits[0]).toHaveLength(result["vocabSize"] as number);
      expect(argmax(logits[0])).toBe(greedy?.ids[0]);
    }
  });

  it("takes token ids as they are, and gives every position with --all", async () => {
    const args = ["logits", "--model", fixtureModel("qwen2-tied-f32"), "--token-ids", "5,6,7"];
    const all = await nchunkJson([...args, "--all"]);
    const last = await nchunkJson(args);
    expect(all["tokenIds"]).toEqual([5, 6, 7]);
    expect(all["logits"]).toHaveLength(3);
    expect((all["logits"] as number[][])[2]).toEqual((last["logits"] as number[][])[0]);
  });
});

describe("output", () => {
  it("ends quietly when its reader has gone", async () => {
    // More than a pipe holds.
    const tokens = Array.from({ length: 100 }, (_, i) => 5 + i).join();
    const args = ["logits", "--model", fixtureModel("qwen2-tied-f32"), "--token-ids", tokens];
    const child = spawn(process.execPath, [CLI, ...args, "--all", "--json"], {
      env: { ...process.env, NCHUNK_CACHE_DIR: CACHE_DIR },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stderr = "";
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    child.stdout.once("data", () => child.stdout.destroy());
    const [status] = (await once(child, "close")) as [number | null];
    expect(stderr).toBe("");
    expect(status).toBe(141);
  });
});

describe("run", () => {
  it("answers about a picture, labels a lossy run as such and counts its reads", async () => {
    const args = ["run", "--model", fixtureModel(MODEL), "--prompt", "What is it?"];
    const about = ["--image", fixtureImage("wide-150x50.png"), "--max-new-tokens", "4"];
    const chunk = await nchunkJson([
      ...args,
      ...about,
      "--policy",
      "chunk",
      "--device",
      "nvme-gen4",
    ]);
    const dense = await nchunkJson([...args, ...about, "--policy", "dense"]);
    expect(chunk["accuracy"]).toBe("lossy");
    expect(dense["accuracy"]).toBe("exact");
    expect(dense["tokenIds"]).toHaveLength(4);
    expect(chunk["rows"]).toBeLessThan(dense["rows"] as number);
  });

  it("gives the same answer from the checkpoint and from its converted image", async () => {
    const out = path.join(folder, "image");
    await nchunkJson(["convert", "--model", fixtureModel(MODEL), "--out", out, "--no-bundled"]);
    const args = ["--prompt", "Hello", "--policy", "dense", "--max-new-tokens", "6"];
    const fromImage = await nchunkJson(["run", "--model", out, ...args]);
    const fromCheckpoint = await nchunkJson(["run", "--model", fixtureModel(MODEL), ...args]);
    expect(fromImage["tokenIds"]).toEqual(fromCheckpoint["tokenIds"]);
  });

  it("samples the same tokens for the same seed", async () => {
    const args = ["run", "--model", fixtureModel(MODEL), "--prompt", "Hello", "--policy", "dense"];
    const sampled = [...args, "--temperature", "1.5", "--max-new-tokens", "12", "--seed"];
    const [first, again, other] = [
      await nchunkJson([...sampled, "7"]),
      await nchunkJson([...sampled, "7"]),
      await nchunkJson([...sampled, "8"]),
    ];
    expect(first["tokenIds"]).toEqual(again["tokenIds"]);
    expect(first["tokenIds"]).not.toEqual(other["tokenIds"]);
  });
});

describe("convert --calibration", () => {
  it("stores rows hot first, and leaves the dense answer as it is", async () => {
    const prompts = path.join(folder, "prompts.json");
    await writeFile(
      prompts,
      JSON.stringify([
        { prompt: "Hello" },
        { prompt: "What is it?", image: fixtureImage("wide-150x50.png") },
      ]),
    );
    const out = path.join(folder, "reordered");
    const convert = ["convert", "--model", fixtureModel(MODEL), "--out", out];
    const manifest = (await nchunkJson([...convert, "--calibration", prompts])) as unknown as {
      flash: { bundles: { permutation?: unknown }[] };
    };
    expect(manifest.flash.bundles.every(({ permutation }) => permutation !== undefined)).toBe(true);
    const args = ["--prompt", "Hello", "--policy", "dense", "--max-new-tokens", "6"];
    const reordered = await nchunkJson(["run", "--model", out, ...args]);
    const plain = await nchunkJson(["run", "--model", fixtureModel(MODEL), ...args]);
    expect(reordered["tokenIds"]).toEqual(plain["tokenIds"]);
  });
});

describe("profile", () => {
  it("prints a valid profile and nothing else", async () => {
    const profile = parseDeviceProfile(await nchunkJson(["profile"]));
    expect(profile.origin).toBe("measured");
    expect(profile.table.sizesBytes.length).toBeGreaterThan(10);
  });
});

describe("wrong input", () => {
  const model = fixtureModel(MODEL);
  const cases: [title: string, args: string[], says: RegExp][] = [
    ["no such model", ["run", "--model", "/nowhere", "--prompt", "x"], /neither a checkpoint/],
    [
      "not a picture",
      ["run", "--model", model, "--prompt", "x", "--image", fixtureGolden(MODEL)],
      /not a picture/,
    ],
    [
      "a missing picture",
      ["run", "--model", model, "--prompt", "x", "--image", "/nowhere.png"],
      /no picture/,
    ],
    [
      "a placeholder without picture",
      ["logits", "--model", model, "--prompt", "<image>"],
      /no image was given/,
    ],
    [
      "a picture for a text model",
      [
        "run",
        "--model",
        fixtureModel("qwen2-tied-f32"),
        "--prompt",
        "x",
        "--image",
        fixtureImage("square-40.png"),
      ],
      /cannot look at pictures/,
    ],
    [
      "a full context",
      ["run", "--model", model, "--prompt", "Hello", "--context-length", "2"],
      /context is full/,
    ],
    [
      "a budget too small",
      ["run", "--model", model, "--prompt", "x", "--memory-budget", "1KiB"],
      /budget is/,
    ],
    ["a profile of no folder", ["profile", "/nowhere"], /not a folder/],
    [
      "an output that is a file",
      ["convert", "--model", model, "--out", fixtureGolden(MODEL)],
      /exists/,
    ],
    ["neither prompt nor ids", ["logits", "--model", model], /one of --prompt and --token-ids/],
    [
      "a token outside the vocabulary",
      ["logits", "--model", model, "--token-ids", "999999"],
      /vocabulary/,
    ],
    [
      "a broken device profile",
      ["run", "--model", model, "--prompt", "x", "--device", fixtureGolden(MODEL)],
      /profile/,
    ],
    [
      "broken calibration prompts",
      ["convert", "--model", model, "--out", "/tmp/x", "--calibration", fixtureGolden(MODEL)],
      /list of prompts/,
    ],
  ];
  it.each(cases)("%s is a clear error, for people and for programs", async (_, args, says) => {
    const result = await nchunk([...args, "--json"]);
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(says);
    expect(result.stderr).not.toMatch(/\n\s+at /);
    const { error } = JSON.parse(result.stdout) as { error: { code: string; message: string } };
    expect(error.code).toMatch(/^[A-Z][A-Z0-9_]+$/);
    expect(error.message).toMatch(says);
  });

  it("names an unsupported architecture and those supported", async () => {
    const dir = path.join(folder, "mamba");
    const { cp } = await import("node:fs/promises");
    await cp(fixtureModel("qwen2-tied-f32"), dir, { recursive: true });
    await writeFile(path.join(dir, "config.json"), JSON.stringify({ model_type: "mamba" }));
    const result = await nchunk(["run", "--model", dir, "--prompt", "x"]);
    expect(result.status).toBe(1);
    for (const name of ["mamba", "llava_onevision", "qwen2", "llama"]) {
      expect(result.stderr).toContain(name);
    }
    expect((await readdir(dir)).length).toBeGreaterThan(1);
  });

  it.each([
    ["--sparsity", "1.5"],
    ["--policy", "best"],
    ["--memory-budget", "lots"],
    ["--max-new-tokens", "0"],
    ["--seed", "-1"],
    ["--top-p", "0"],
  ])("refuses %s %s before anything is opened", async (flag, value) => {
    const { status, stderr } = await nchunk([
      "run",
      "--model",
      model,
      "--prompt",
      "x",
      flag,
      value,
    ]);
    expect(status).not.toBe(0);
    expect(stderr).toContain(flag);
  });
});

describe("help", () => {
  it("lists every verb", async () => {
    const { stdout } = await nchunk(["--help"]);
    for (const verb of ["demo", "run", "logits", "convert", "calibrate", "profile"])
      expect(stdout).toContain(verb);
  });
});
