import { estimatePlanNs, selectedRows, type ChunkPlan } from "@neuron-chunking/latency-model";
import { alignToPage, planRanges, selectedPlan } from "../plan-ranges";
import type { FileRange } from "../fio/iolog";
import type { Context } from "./context";

/** The paper reports a coefficient of variation of 1.07 to 1.44 before most down projections (App. B.2). */
const IMPORTANCE_VARIATION = 1.3;
const IMPORTANCE_SEED = 2025;
const POLICIES = ["topk", "chunk"] as const;

/** The rows that one policy keeps of one matrix, read at several places of the file. */
export interface MixedPlan {
  readonly rowBytes: number;
  readonly keep: number;
  readonly policy: (typeof POLICIES)[number];
  readonly plan: ChunkPlan;
  /** About what reading one matrix takes. */
  readonly expectedNs: number;
  /** Where matrices with these rows start in the file; each is read once per measurement. */
  readonly baseOffsetsBytes: readonly number[];
  /** Of one matrix. */
  readonly bytesWanted: number;
}

/** As many matrices as fill one sample by the device's own figures, spread over the file. */
function basesOf(context: Context, matrixBytes: number, expectedNs: number): number[] {
  const needed = Math.ceil((context.effort.mixedSampleMs * 1e6) / expectedNs);
  const strideBytes = alignToPage(matrixBytes);
  const places = Math.floor(context.file.sizeBytes / strideBytes);
  const count = Math.max(1, Math.min(needed, places));
  const every = Math.floor(places / count);
  return Array.from({ length: count }, (_, i) => i * every * strideBytes);
}

/** Every row size, share and policy. */
export function mixedPlans(context: Context): MixedPlan[] {
  const { effort, table } = context;
  return effort.rowSizesBytes.flatMap((rowBytes) =>
    effort.keptShares.flatMap((keep) =>
      POLICIES.map((policy) => {
        const rows = Math.floor(effort.matrixBytes / rowBytes);
        const query = { rows, rowBytes, keep, policy };
        const plan = selectedPlan(
          { ...query, variation: IMPORTANCE_VARIATION, seed: IMPORTANCE_SEED },
          table,
        );
        const expectedNs = estimatePlanNs(plan, rowBytes, table);
        const baseOffsetsBytes = basesOf(context, rows * rowBytes, expectedNs);
        const bytesWanted = selectedRows(plan) * rowBytes;
        return { rowBytes, keep, policy, plan, expectedNs, baseOffsetsBytes, bytesWanted };
      }),
    ),
  );
}

/** Every range of one measurement, in the order of the matrices. */
export const rangesOf = ({ plan, rowBytes, baseOffsetsBytes }: MixedPlan): FileRange[] =>
  baseOffsetsBytes.flatMap((base) => planRanges(plan, rowBytes, base));
