import { createHash } from "node:crypto";
import { open, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { blockPair, BLOCK_BYTES, readBlocks, writeFully } from "./files.js";
import type { ImagePlan, ResidentPlan } from "./image-plan.js";
import type { FinishedItem, Journal } from "./journal.js";
import { FLASH_FILE, RESIDENT_FILE, type HashedFile } from "./manifest.js";
import type { FileLayout } from "./safetensors-layout.js";
import { Workspace, writeBundle } from "./write-bundle.js";

/** At most so much is written again after a crash, and never more than an eighth of the image. */
const COMMIT_BYTES = 64 * 1024 * 1024;
const COMMITS_PER_IMAGE = 8;

/** Where an image's bytes come from and who is told about them. */
export interface WriterHooks {
  source: (path: string) => Promise<FileHandle>;
  onItem: (phase: "bundles" | "resident" | "finish", item: string) => void;
  /** Throws to stop. */
  onBytes: (bytes: number) => void;
}

/** Writes the two safetensors files of an image, item by item, skipping those the journal has. */
export class ImageWriter {
  private readonly workspace: Workspace;
  private readonly commitBytes: number;
  private uncommittedBytes = 0;

  constructor(
    private readonly journal: Journal,
    private readonly plan: ImagePlan,
    private readonly hooks: WriterHooks,
  ) {
    this.workspace = new Workspace((bytes) => hooks.onBytes(bytes));
    const imageBytes = plan.flash.fileBytes + plan.resident.fileBytes;
    this.commitBytes = Math.min(COMMIT_BYTES, imageBytes / COMMITS_PER_IMAGE);
  }

  /** @returns The hash of every bundle and of every resident tensor, in plan order. */
  async write(): Promise<{ flash: FinishedItem[]; resident: FinishedItem[] }> {
    const { bundles, residents, flash, resident } = this.plan;
    return {
      flash: await this.writeFile(FLASH_FILE, "bundles", flash, (file, index) =>
        writeBundle(
          file,
          flash.tensors[index].offsetBytes,
          bundles[index],
          this.hooks.source,
          this.workspace,
        ),
      ),
      resident: await this.writeFile(RESIDENT_FILE, "resident", resident, (file, index) =>
        this.writeResident(file, resident.tensors[index].offsetBytes, residents[index]),
      ),
    };
  }

  /** Copies small files into the image. */
  async copyFiles(files: readonly { name: string; path: string }[]): Promise<HashedFile[]> {
    const copied: HashedFile[] = [];
    for (const { name, path } of files) {
      this.hooks.onItem("finish", name);
      const source = await this.hooks.source(path);
      const { size } = await source.stat();
      const file = await open(join(this.journal.dir, name), "w");
      try {
        const sha256 = await this.copy(source, path, 0, size, file, 0, () => undefined);
        await file.sync();
        copied.push({ name, sizeBytes: size, sha256 });
      } finally {
        await file.close();
      }
    }
    return copied;
  }

  private async writeFile(
    name: string,
    phase: "bundles" | "resident",
    layout: FileLayout,
    writeItem: (file: FileHandle, index: number) => Promise<FinishedItem>,
  ): Promise<FinishedItem[]> {
    // Neither "w" nor "a": what an interrupted run wrote must stay.
    const file = await open(join(this.journal.dir, name), "a").then(async (created) => {
      await created.close();
      return open(join(this.journal.dir, name), "r+");
    });
    try {
      await file.truncate(layout.fileBytes);
      await writeFully(file, layout.header, 0);
      const items: FinishedItem[] = [];
      for (const [index, tensor] of layout.tensors.entries()) {
        items.push(await this.item(file, phase, tensor, () => writeItem(file, index)));
      }
      await this.commit(file);
      await file.sync();
      return items;
    } finally {
      await file.close();
    }
  }

  private async item(
    file: FileHandle,
    phase: "bundles" | "resident",
    tensor: { name: string; lengthBytes: number },
    write: () => Promise<FinishedItem>,
  ): Promise<FinishedItem> {
    const item = `${phase}/${tensor.name}`;
    this.hooks.onItem(phase, tensor.name);
    const finished = this.journal.finished(item);
    if (finished !== undefined) {
      this.hooks.onBytes(tensor.lengthBytes);
      return finished;
    }
    const written = await write();
    this.journal.note(item, written);
    this.uncommittedBytes += tensor.lengthBytes;
    if (this.uncommittedBytes >= this.commitBytes) await this.commit(file);
    return written;
  }

  private async commit(file: FileHandle): Promise<void> {
    await file.datasync();
    await this.journal.commit();
    this.uncommittedBytes = 0;
  }

  private async writeResident(
    file: FileHandle,
    offsetBytes: number,
    { source }: ResidentPlan,
  ): Promise<FinishedItem> {
    if (source instanceof Uint32Array) {
      const bytes = new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
      await writeFully(file, bytes, offsetBytes);
      this.hooks.onBytes(bytes.length);
      return { sha256: createHash("sha256").update(bytes).digest("hex") };
    }
    const from = await this.hooks.source(source.path);
    const { path, lengthBytes } = source;
    const onBytes = (bytes: number) => this.hooks.onBytes(bytes);
    const range = [source.offsetBytes, lengthBytes] as const;
    return { sha256: await this.copy(from, path, ...range, file, offsetBytes, onBytes) };
  }

  private async copy(
    from: FileHandle,
    path: string,
    fromBytes: number,
    lengthBytes: number,
    to: FileHandle,
    toBytes: number,
    onBytes: (bytes: number) => void,
  ): Promise<string> {
    const hash = createHash("sha256");
    const blockBytes = Math.min(BLOCK_BYTES, Math.max(1, lengthBytes));
    const range = { offsetBytes: fromBytes, lengthBytes, blockBytes };
    await readBlocks(from, path, range, blockPair(blockBytes), async (bytes, done) => {
      const written = writeFully(to, bytes, toBytes + done);
      hash.update(bytes);
      await written;
      onBytes(bytes.length);
    });
    return hash.digest("hex");
  }
}
