import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { modelPath } from "./goldens.js";

interface Entry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/** Copies the fixture checkpoint `name` to `dir` with its first layer repeated `layers` times. */
export async function writeDeepCheckpoint(
  name: string,
  dir: string,
  layers: number,
): Promise<void> {
  await cp(modelPath(name), dir, { recursive: true });
  const configPath = join(dir, "config.json");
  const config = JSON.parse(await readFile(configPath, "utf8")) as Record<string, unknown>;
  // A list with an entry for each layer; it follows from their number where it is absent.
  delete config.layer_types;
  await writeFile(configPath, JSON.stringify({ ...config, num_hidden_layers: layers }));

  const path = join(dir, "model.safetensors");
  const file = await readFile(path);
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, 8 + headerBytes)) as Record<string, Entry>;
  const tensors: Record<string, Entry> = {};
  const parts: Buffer[] = [];
  let end = 0;
  const add = (key: string, { dtype, shape, data_offsets: [from, to] }: Entry): void => {
    parts.push(file.subarray(8 + headerBytes + from, 8 + headerBytes + to));
    tensors[key] = { dtype, shape, data_offsets: [end, end + to - from] };
    end += to - from;
  };
  for (const [key, entry] of Object.entries(header)) {
    const ofLayer = /^(.*layers\.)(\d+)(\..*)$/.exec(key);
    if (key === "__metadata__" || (ofLayer !== null && ofLayer[2] !== "0")) continue;
    if (ofLayer === null) add(key, entry);
    for (let layer = 0; ofLayer !== null && layer < layers; layer++) {
      add(`${ofLayer[1]}${layer}${ofLayer[3]}`, entry);
    }
  }
  const text = Buffer.from(JSON.stringify(tensors).padEnd(8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  await writeFile(path, Buffer.concat([length, text, ...parts]));
}
