import type { Checkpoint } from "./checkpoint.js";
import { permutationTensorName, type BundlePlan, type ImagePlan } from "./image-plan.js";
import type { FinishedItem } from "./journal.js";
import {
  FLASH_FILE,
  manifestHead,
  RESIDENT_FILE,
  type HashedFile,
  type Manifest,
  type ManifestBundle,
  type SourceFile,
} from "./manifest.js";
import type { PlacedTensor } from "./safetensors-layout.js";

/** What was written, each list in the order of the plan. */
export interface WrittenImage {
  flash: readonly FinishedItem[];
  resident: readonly FinishedItem[];
  files: HashedFile[];
}

/** The manifest of an image that was written as planned. */
export function imageManifest(
  checkpoint: Checkpoint,
  plan: ImagePlan,
  made: { bundled: boolean; sourceFiles: SourceFile[]; optionsSha256: string },
  written: WrittenImage,
): Manifest {
  const { bundled, sourceFiles, optionsSha256 } = made;
  return {
    ...manifestHead(plan.bundles.some(({ quantised }) => quantised !== undefined)),
    bundled,
    model: checkpoint.model,
    source: { files: sourceFiles, optionsSha256, ignoredTensors: checkpoint.ignoredTensors },
    flash: {
      file: FLASH_FILE,
      sizeBytes: plan.flash.fileBytes,
      bundles: plan.bundles.map((bundle, index) =>
        manifestBundle(bundle, plan.flash.tensors[index], written.flash[index]),
      ),
    },
    resident: {
      file: RESIDENT_FILE,
      sizeBytes: plan.resident.fileBytes,
      tensors: plan.residents.map(({ name, dtype, shape }, index) => ({
        name,
        dtype,
        shape: [...shape],
        offsetBytes: plan.resident.tensors[index].offsetBytes,
        lengthBytes: plan.resident.tensors[index].lengthBytes,
        sha256: written.resident[index].sha256,
      })),
    },
    files: written.files,
  };
}

function manifestBundle(
  bundle: BundlePlan,
  placed: PlacedTensor,
  { sha256, error }: FinishedItem,
): ManifestBundle {
  const { name, kind, layer, rows, rowBytes, dtype, quantised, parts, rowOrder, folded } = bundle;
  return {
    name,
    kind,
    layer,
    offsetBytes: placed.offsetBytes,
    rows,
    rowBytes,
    dtype: quantised?.dtype ?? dtype,
    ...(quantised === undefined ? {} : { groupSize: quantised.groupSize }),
    parts: parts.map((part) => ({
      name: part.name,
      columnOffset: part.columnOffset,
      columns: part.columns,
    })),
    sha256,
    ...(error === undefined ? {} : { quantisedFrom: { dtype, error } }),
    ...(rowOrder === undefined
      ? {}
      : { permutation: { tensor: permutationTensorName(name), folded } }),
  };
}
