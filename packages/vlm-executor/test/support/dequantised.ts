import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openFlashImage, readSafetensorsHeader } from "@neuron-chunking/weight-store";
import type { BundleInfo } from "@neuron-chunking/weight-store";

/** IEEE binary16 without sign, by its definition. */
function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  return exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15);
}

/** Weight of one column of a quantised row, by the layout in weight-store's README. */
function weightOf(row: Buffer, column: number, columns: number, bundle: BundleInfo): number {
  const { dtype, groupSize = NaN } = bundle;
  const nibble = (row[column >> 1] >> (column % 2 === 0 ? 0 : 4)) & 15;
  const quant = dtype === "int8" ? row.readInt8(column) : nibble > 7 ? nibble - 16 : nibble;
  const quantBytes = dtype === "int8" ? columns : Math.ceil(columns / 2);
  const scalesAt = quantBytes + (quantBytes % 2);
  return quant * half(row.readUInt16LE(scalesAt + 2 * Math.floor(column / groupSize)));
}

/** Projections [outputs, inputs] of a quantised image as f32, in the checkpoint's order, by the end of their names. */
async function projections(imageDir: string): Promise<Map<string, Buffer>> {
  const flash = readFileSync(join(imageDir, "flash.safetensors"));
  const image = await openFlashImage(imageDir, { resident: "lazy" });
  const { bundles } = image;
  await image.close();
  const all = new Map<string, Buffer>();
  for (const bundle of bundles) {
    const { layer, rows, rowBytes, offsetBytes, parts, storedOrder } = bundle;
    const down = bundles.find(
      (other) => other.layer === layer && /^(mlp_out|down)$/.test(other.kind),
    );
    const width = parts.reduce((sum, { columns }) => sum + columns, 0);
    for (const { name, columnOffset, columns } of parts) {
      const bytes = Buffer.alloc(4 * rows * columns);
      for (let row = 0; row < rows; row++) {
        const start = offsetBytes + row * rowBytes;
        const stored = flash.subarray(start, start + rowBytes);
        for (let column = 0; column < columns; column++) {
          const weight = weightOf(stored, columnOffset + column, width, bundle);
          // The outputs of gate and up are stored as down reads them.
          const folded = /^(gate|up)_/.test(name) ? down?.storedOrder : undefined;
          const output = folded?.[column] ?? column;
          bytes.writeFloatLE(weight, 4 * (output * rows + (storedOrder?.[row] ?? row)));
        }
      }
      const module = /^[qkvo]_/.test(name) ? "self_attn" : "mlp";
      all.set(`layers.${layer}.${module}.${name}.weight`, bytes);
    }
  }
  return all;
}

/**
 * A copy of a one-file checkpoint whose decoder projections are what a quantised image of it stores, as f32: what a run
 * on that image is exact with respect to.
 */
export async function dequantisedCheckpoint(
  checkpointDir: string,
  imageDir: string,
  outputDir: string,
): Promise<void> {
  cpSync(checkpointDir, outputDir, { recursive: true });
  mkdirSync(outputDir, { recursive: true });
  const replaced = await projections(imageDir);
  const path = join(checkpointDir, "model.safetensors");
  const source = readFileSync(path);
  const header: Record<string, unknown> = {};
  const data: Buffer[] = [];
  let end = 0;
  let count = 0;
  for (const entry of (await readSafetensorsHeader(path)).tensors.values()) {
    const { name, dtype, shape, offsetBytes, lengthBytes } = entry;
    const key = /layers\.\d+\.(?:self_attn|mlp)\.[a-z]+_proj\.weight$/.exec(name)?.[0];
    const weights = name.includes("vision") || key === undefined ? undefined : replaced.get(key);
    if (weights !== undefined) count++;
    const bytes = weights ?? source.subarray(offsetBytes, offsetBytes + lengthBytes);
    const data_offsets = [end, end + bytes.length];
    header[name] = { dtype: weights === undefined ? dtype : "F32", shape, data_offsets };
    data.push(bytes);
    end += bytes.length;
  }
  if (count !== replaced.size) throw new Error(`replaced ${count} of ${replaced.size} projections`);
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(join(outputDir, "model.safetensors"), Buffer.concat([length, json, ...data]));
}
