import { createHash } from "node:crypto";
import type { ProfileValue } from "@neuron-chunking/latency-model";
import { FlashReaderError } from "../errors.js";
import { FlashReader } from "../reader.js";
import { deviceFacts } from "./device-facts.js";
import type { DeviceFacts } from "./device-facts.js";

/** Version of the procedure: profiles of another version are not compared with ours, but measured again. */
export const PROBE_VERSION = 2;

/** What is asked for; it decides what is measured. */
export interface BackendRequest {
  /** As of `FlashReader.open`, `"optional"` by default: `reader.directIo` of the profile says what was used. */
  readonly directIo?: "required" | "optional" | "disabled";
  /** As of `FlashReader.open`. `"auto"`, the default, measures all that there are and chooses the faster one. */
  readonly backend?: "auto" | "io_uring" | "pool";
}

/**
 * The key of what a profile of the storage behind `path` (a file or folder) depends on, without
 * measuring anything: `profile.key` when nothing changed since (P4). Model, firmware, serial or WWID,
 * link, file system and options, kernel, queue settings, whether this process may use io_uring, the
 * options, and the version of the profiler.
 *
 * Rejects with the system's error when `path` cannot be found.
 */
export async function deviceKey(path: string, request: BackendRequest = {}): Promise<string> {
  return keyOf(await deviceFacts(path), request, await hasUring());
}

/** @internal sha256 of the facts in a fixed order, hexadecimal. */
export function keyOf(
  { device, identity }: Pick<DeviceFacts, "device" | "identity">,
  request: BackendRequest,
  uring: boolean,
): string {
  const facts: [string, ProfileValue | undefined][] = Object.entries(device);
  facts.sort(([a], [b]) => (a < b ? -1 : 1));
  const { backend = "auto", directIo = "optional" } = request;
  const text = [PROBE_VERSION, backend, directIo, uring, identity, facts];
  return createHash("sha256").update(JSON.stringify(text)).digest("hex");
}

/** Whether this process may use io_uring at all, tried on a file that always exists. */
export async function hasUring(): Promise<boolean> {
  try {
    const reader = await FlashReader.open(process.execPath, {
      backend: "io_uring",
      directIo: "disabled",
      tuning: { queueDepth: 1, submitBatch: 1 },
    });
    await reader.close();
    return true;
  } catch (error) {
    if (error instanceof FlashReaderError) return false;
    throw error;
  }
}
