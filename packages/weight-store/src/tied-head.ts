import { open } from "node:fs/promises";
import type { Checkpoint, CheckpointTensor } from "./checkpoint.js";
import { withFileErrors } from "./errors.js";
import { BLOCK_BYTES, blockPair, readBlocks, readFully } from "./files.js";

const HEAD = "lm_head.weight";
const EMBEDDING = "decoder.embed_tokens.weight";

/**
 * Settles which of two tied tensors a checkpoint keeps. Where config.json ties head and embedding, some exporters write
 * both, or the head alone. As in transformers 5: two that are equal are one (the embedding stays), two that differ are
 * both used whatever the configuration says, and a lone head is the embedding.
 */
export async function settleTiedHead(checkpoint: Checkpoint): Promise<Checkpoint> {
  const head = checkpoint.tensors.get(HEAD);
  const embedding = checkpoint.tensors.get(EMBEDDING);
  if (!checkpoint.model.decoder.tieWordEmbeddings || head === undefined) return checkpoint;
  const tensors = new Map(checkpoint.tensors);
  if (embedding === undefined) {
    tensors.delete(HEAD);
    tensors.set(EMBEDDING, { ...head, name: EMBEDDING });
    return { ...checkpoint, tensors };
  }
  if (!(await sameContent(head, embedding))) return checkpoint;
  tensors.delete(HEAD);
  const ignoredTensors = [...checkpoint.ignoredTensors, head.sourceName];
  return { ...checkpoint, tensors, ignoredTensors };
}

async function sameContent(a: CheckpointTensor, b: CheckpointTensor): Promise<boolean> {
  if (a.dtype !== b.dtype || a.lengthBytes !== b.lengthBytes) return false;
  return withFileErrors("compare head and embedding", a.path, async () => {
    const [fileA, fileB] = [await open(a.path, "r"), await open(b.path, "r")];
    try {
      const blockBytes = Math.min(BLOCK_BYTES, Math.max(1, a.lengthBytes));
      const other = new Uint8Array(blockBytes);
      const { path, offsetBytes, lengthBytes } = a;
      let same = true;
      const range = { offsetBytes, lengthBytes, blockBytes };
      await readBlocks(fileA, path, range, blockPair(blockBytes), async (bytes, done) => {
        if (!same) return;
        const compared = other.subarray(0, bytes.length);
        await readFully(fileB, b.path, compared, b.offsetBytes + done);
        same = Buffer.compare(bytes, compared) === 0;
      });
      return same;
    } finally {
      await fileA.close();
      await fileB.close();
    }
  });
}
