import { FlashReader, FlashReaderError } from "@neuron-chunking/flash-reader";
import type { DeviceProfile } from "@neuron-chunking/latency-model";

const BACKENDS = ["io_uring", "pool"] as const;
export type BackendName = (typeof BACKENDS)[number];

/** The backends that work on this file; the first is the one that the reader chooses by itself. */
export interface OpenReaders {
  readonly chosen: FlashReader;
  readonly others: readonly FlashReader[];
  /** Backends that cannot be had here, and why. */
  readonly refused: Readonly<Record<string, string>>;
  close(): Promise<void>;
}

/**
 * Opens the file once per backend, tuned as the profile says. Rejects with the errors of
 * `FlashReader.open`, apart from BACKEND_UNSUPPORTED.
 */
export async function openReaders(path: string, profile: DeviceProfile): Promise<OpenReaders> {
  const tuning = profile.reader?.tuning;
  const options = tuning ? { tuning } : {};
  const chosen = await FlashReader.open(path, options);
  const others: FlashReader[] = [];
  const refused: Record<string, string> = {};
  const close = async (): Promise<void> => {
    for (const reader of [chosen, ...others]) await reader.close();
  };
  try {
    for (const backend of BACKENDS) {
      if (backend === chosen.backend.name) continue;
      try {
        others.push(await FlashReader.open(path, { ...options, backend }));
      } catch (error) {
        if (!(error instanceof FlashReaderError) || error.code !== "BACKEND_UNSUPPORTED")
          throw error;
        refused[backend] = error.message;
      }
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { chosen, others, refused, close };
}
