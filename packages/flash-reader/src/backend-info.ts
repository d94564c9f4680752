import type { NativeDescription } from "./binding.js";
import { errnoName } from "./errors.js";

/** Ways to read a file, best first. */
export type ReadTier = "io_uring-direct" | "io_uring-buffered" | "pool-direct" | "pool-buffered";

/** A tier that could not be had, and why. */
export interface RefusedTier {
  readonly tier: ReadTier;
  readonly reason: string;
  /** The system's answer, `"EPERM"` for example; absent when it gave none. */
  readonly errno?: string;
}

/** How a reader reads. Decided at open; it can step down once, when the kernel ends an io_uring. */
export interface BackendInfo {
  readonly name: "io_uring" | "pool";
  /** Whether reads go past the page cache. */
  readonly directIo: boolean;
  readonly tier: ReadTier;
  /** Better tiers that were refused, best first. Empty when nothing better was asked for. */
  readonly refused: readonly RefusedTier[];
}

/** `asked`: the backend that the caller wanted; tiers of others were not refused but not wanted. */
export function describeBackend(
  description: NativeDescription,
  asked: "auto" | BackendInfo["name"],
): BackendInfo {
  const { backend: name, directIo, fallback, uringRefusal } = description;
  const refused: RefusedTier[] = [];
  const refuse = (tier: ReadTier, cause: { detail: string; errno: number } | undefined): void => {
    if (cause === undefined || (asked !== "auto" && !tier.startsWith(asked))) return;
    const errno = errnoName(cause.errno);
    refused.push({ tier, reason: cause.detail, ...(errno !== undefined && { errno }) });
  };
  refuse("io_uring-direct", fallback);
  refuse(directIo ? "io_uring-direct" : "io_uring-buffered", uringRefusal);
  refuse("pool-direct", fallback);
  return { name, directIo, tier: `${name}-${directIo ? "direct" : "buffered"}`, refused };
}
