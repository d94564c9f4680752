import { readFile, rename, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { profileDevice } from "@neuron-chunking/flash-reader";
import {
  parseDeviceProfile,
  SIMULATED_DEVICES,
  simulatedDevice,
  type DeviceProfile,
} from "@neuron-chunking/latency-model";
import { cacheFolder } from "./cache";
import { NchunkError } from "./errors";
import { withProgress } from "./terminal/progress";

export interface ProfileSource {
  profile: DeviceProfile;
  /** The file it lies in; undefined for a simulated device. */
  file?: string;
  fromCache: boolean;
}

export async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (cause) {
    throw new NchunkError(
      "INVALID_ARGUMENT",
      `${file} cannot be read as JSON: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** Writes under another name and renames, so that a reader never sees half a file. */
export async function writeJson(file: string, value: unknown): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  await writeFile(temporary, `${JSON.stringify(value, null, 2)}\n`);
  await rename(temporary, file);
}

/** Profiles are kept per mounted device: `stat().dev` names it as long as it stays mounted. */
async function cachedProfileFile(directory: string): Promise<string> {
  const { dev } = await stat(directory);
  return path.join(await cacheFolder("profiles"), `device-${dev}.json`);
}

/** Measures the disk under `directory` and keeps the profile in the cache. */
export async function measureProfile(
  directory: string,
  options: { quick: boolean; signal?: AbortSignal },
): Promise<ProfileSource> {
  const isFolder = await stat(directory).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isFolder) {
    throw new NchunkError(
      "INVALID_ARGUMENT",
      `${directory} is not a folder. Give a folder on the disk to measure; a probe file is kept in it.`,
    );
  }
  const file = await cachedProfileFile(directory);
  const profile = await withProgress(`Profiling the disk under ${directory}`, (report) =>
    profileDevice({
      directory,
      quick: options.quick,
      onProgress: ({ fraction, phase }) => report(fraction, phase),
      ...(options.signal ? { signal: options.signal } : {}),
    }),
  );
  await writeJson(file, profile);
  return { profile, file, fromCache: false };
}

/** The cached profile of the disk under `directory`, measured first when there is none or it is unreadable. */
export async function profileOf(directory: string, signal?: AbortSignal): Promise<ProfileSource> {
  const file = await cachedProfileFile(directory);
  const isCached = await stat(file).then(
    () => true,
    () => false,
  );
  if (isCached) {
    try {
      return { profile: parseDeviceProfile(await readJson(file)), file, fromCache: true };
    } catch (error) {
      process.stderr.write(`nchunk: ${(error as Error).message}; measuring again.\n`);
    }
  }
  return measureProfile(directory, { quick: true, ...(signal ? { signal } : {}) });
}

/** What `--device` names: a simulated device, a profile file, or (without it) the disk under `directory`. */
export async function chooseProfile(
  device: string | undefined,
  directory: string,
  signal?: AbortSignal,
): Promise<ProfileSource> {
  if (device === undefined) return profileOf(directory, signal);
  const simulated = SIMULATED_DEVICES.find((name) => name === device);
  if (simulated) return { profile: simulatedDevice(simulated), fromCache: false };
  return { profile: parseDeviceProfile(await readJson(device)), file: device, fromCache: true };
}
