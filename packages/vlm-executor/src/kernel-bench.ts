import { kernels, type KernelsBinding } from "./binding.js";

/**
 * What a benchmark of the kernels needs of them: timed cases beside this machine's limits, the instruction sets and the number of
 * threads to time. Target and threads hold for the whole process: whoever changes them puts them back.
 */
export const kernelBench: Pick<
  KernelsBinding,
  "availableTargets" | "features" | "forceTarget" | "openBench" | "setThreads"
> = kernels;

export type { KernelBench, KernelCase, KernelCaseSpec, KernelFeatures } from "./binding.js";
