import path from "node:path";
import { pathToFileURL } from "node:url";
import { peakRssBytes } from "./executor-child";
import { promptTokens, type LlamaRequest, type LlamaResult } from "./child-protocol";

/** Tokens of one batch of the prompt. */
const BATCH_TOKENS = 256;

/** The part of node-llama-cpp's interface that is used here: it is no dependency, so its types are not at hand. */
interface NodeLlamaCpp {
  readonly getLlama: (options: Record<string, unknown>) => Promise<{
    loadModel(options: Record<string, unknown>): Promise<LlamaModel>;
  }>;
}

interface LlamaModel {
  readonly useMmap: boolean;
  createContext(options: Record<string, unknown>): Promise<{
    getSequence(): {
      evaluate(tokens: number[], options: Record<string, unknown>): AsyncGenerator<number>;
    };
  }>;
}

/** Loads the file memory-mapped, takes in a prompt, decodes greedily. The process must be ended after it. */
export async function runLlama(request: LlamaRequest): Promise<LlamaResult> {
  const { work, contextLength, threads } = request;
  const entry = path.join(request.moduleDir, "node_modules/node-llama-cpp/dist/index.js");
  const { getLlama } = (await import(pathToFileURL(entry).href)) as NodeLlamaCpp;
  const llama = await getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    logLevel: "error",
    maxThreads: threads,
  });
  const loadedAtMs = performance.now();
  const model = await llama.loadModel({
    modelPath: request.file,
    gpuLayers: 0,
    useMmap: true,
    useMlock: false,
    useDirectIo: false,
    ignoreMemorySafetyChecks: true,
  });
  const loadNs = (performance.now() - loadedAtMs) * 1e6;
  const context = await model.createContext({
    contextSize: contextLength,
    batchSize: Math.min(BATCH_TOKENS, contextLength),
    threads,
    ignoreMemorySafetyChecks: true,
  });
  const sequence = context.getSequence();
  const startedMs = performance.now();
  let lastMs = startedMs;
  const tokensNs: number[] = [];
  const tokenIds: number[] = [];
  const options = { temperature: 0, yieldEogToken: true };
  for await (const token of sequence.evaluate(promptTokens(work.prefillTokens), options)) {
    const nowMs = performance.now();
    tokensNs.push((nowMs - lastMs) * 1e6);
    tokenIds.push(token);
    lastMs = nowMs;
    if (tokensNs.length > work.decodeTokens) break;
    if (nowMs - startedMs > work.phaseMs && tokensNs.length > 1) break;
  }
  const [prefillNs, ...decodeNs] = tokensNs;
  return {
    loadNs,
    prefillNs,
    decodeNs,
    tokenIds,
    peakRssBytes: await peakRssBytes(),
    memoryMapped: model.useMmap,
  };
}
