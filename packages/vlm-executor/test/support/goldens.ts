import { readFileSync } from "node:fs";
import { join } from "node:path";

export const FIXTURES = join(import.meta.dirname, "..", "fixtures");
export const picturePath = (name: string): string => join(FIXTURES, "images", name);
export const modelPath = (name: string): string => join(FIXTURES, "models", name);

export interface GoldenCase {
  readonly name: string;
  readonly prompt: string;
  readonly images: readonly string[];
  readonly videos: readonly (readonly string[])[];
  readonly grouping: "conversation" | "independent";
  readonly inputIds: readonly number[];
  readonly greedy?: { readonly ids: readonly number[]; readonly minMargin: number };
  readonly logits: {
    readonly tensor: string;
    readonly firstPosition: number;
    readonly lowPrecisionTensor?: string;
    readonly lowPrecisionDeviation?: number;
  };
  readonly internals?: readonly string[];
  /** [height, width] */
  readonly imageSizes?: readonly (readonly [number, number])[];
  readonly tileCounts?: readonly number[];
}

/** A case as `VlmExecutor.prepare` takes it. */
export const promptOf = (c: GoldenCase) => ({
  prompt: c.prompt,
  images: c.images.map(picturePath),
  videos: c.videos.map((frames) => frames.map(picturePath)),
  grouping: c.grouping,
  chat: false,
});

export interface ModelGolden {
  readonly model: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly chats: readonly {
    readonly name: string;
    readonly messages: readonly { readonly role: string; readonly content: string }[];
    readonly addGenerationPrompt: boolean;
    readonly text: string;
  }[];
  readonly encodings: readonly {
    readonly text: string;
    readonly ids: readonly number[];
    readonly idsWithoutSpecial: readonly number[];
    readonly decoded: string;
    readonly decodedWithoutSpecial: string;
  }[];
  readonly cases: readonly GoldenCase[];
}

export interface PicturesGolden {
  readonly processorOf: string;
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly pictures: readonly {
    readonly file: string;
    readonly sizeHeightWidth: readonly [number, number];
    readonly tiles: number;
    readonly byPathFailed?: string;
    readonly loadedBy: "path" | "load_image";
  }[];
}

export interface GoldenTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array | Uint8Array;
}

export const readGolden = <T>(name: string): T =>
  JSON.parse(readFileSync(join(FIXTURES, "goldens", `${name}.json`), "utf8")) as T;

/** The tensors of a golden: F32 and U8 only. */
export function readGoldenTensors(name: string): Map<string, GoldenTensor> {
  const file = readFileSync(join(FIXTURES, "goldens", `${name}.safetensors`));
  const headerLength = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, 8 + headerLength)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, GoldenTensor>();
  for (const [key, entry] of Object.entries(header)) {
    if (key === "__metadata__") continue;
    const [start, end] = entry.data_offsets.map((offset) => 8 + headerLength + offset) as [
      number,
      number,
    ];
    const bytes = new Uint8Array(file.subarray(start, end));
    const values = entry.dtype === "U8" ? bytes : new Float32Array(bytes.buffer);
    tensors.set(key, { shape: entry.shape, values });
  }
  return tensors;
}
