import { readFile, rename, stat, utimes, writeFile } from "node:fs/promises";
import path from "node:path";
import { deviceKey, profileDevice, spotCheckProfile } from "@neuron-chunking/flash-reader";
import {
  parseDeviceProfile,
  SIMULATED_DEVICES,
  simulatedDevice,
  type DeviceProfile,
} from "@neuron-chunking/latency-model";
import { cacheFolder, requireFolder } from "./cache";
import { errorCode, NchunkError } from "./errors";
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

/**
 * A profile that is older than this, or was last found right so long ago, is checked before it is used: a
 * second of reads once a day, rather than at every start.
 */
const CHECK_AFTER_MS = 24 * 3600 * 1000;

/**
 * Profiles are kept under the key of what they depend on (model, firmware, serial, file system, kernel,
 * queue settings, profiler): when any of it changes there is none yet, and the disk is measured again.
 */
async function profileFile(key: string): Promise<string> {
  return path.join(await cacheFolder("profiles"), `device-${key.slice(0, 16)}.json`);
}

/** Measures the disk under `directory` and keeps the profile in the cache. */
export async function measureProfile(
  directory: string,
  options: { quick: boolean; signal?: AbortSignal },
): Promise<ProfileSource> {
  await requireFolder(directory, "a probe file is kept in it");
  const profile = await withProgress(`Profiling the disk under ${directory}`, (report) =>
    profileDevice({
      directory,
      quick: options.quick,
      onProgress: ({ fraction, phase }) => report(fraction, phase),
      ...(options.signal ? { signal: options.signal } : {}),
    }),
  );
  const file = await profileFile(profile.key ?? (await deviceKey(directory)));
  await writeJson(file, profile);
  return { profile, file, fromCache: false };
}

/** Whether the profile in `file` still describes the disk; says on stderr why not. */
async function isUpToDate(
  profile: DeviceProfile,
  file: string,
  directory: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { mtimeMs } = await stat(file);
  if (Date.now() - mtimeMs < CHECK_AFTER_MS) return true;
  const check = await withProgress(`Checking the profile of the disk under ${directory}`, () =>
    spotCheckProfile(profile, { directory, ...(signal ? { signal } : {}) }),
  ).catch((error: unknown) => {
    if (!["NO_SPACE", "OPEN_FAILED"].includes(errorCode(error) ?? "")) throw error;
    process.stderr.write(`nchunk: ${(error as Error).message} The profile is used unchecked.\n`);
    return undefined;
  });
  if (check === undefined) return true;
  if (check.valid) {
    const now = new Date();
    await utimes(file, now, now);
    return true;
  }
  const reason = check.reason ?? "it does not describe this disk";
  process.stderr.write(
    `nchunk: the profile in ${file} is out of date: ${reason}; measuring again.\n`,
  );
  return false;
}

/**
 * The cached profile of the disk under `directory`, measured first when there is none, it is unreadable, or
 * a spot check (once a day) finds that the disk has changed.
 */
export async function profileOf(directory: string, signal?: AbortSignal): Promise<ProfileSource> {
  const key = await deviceKey(directory);
  const file = await profileFile(key);
  const isCached = await stat(file).then(
    () => true,
    () => false,
  );
  if (isCached) {
    const profile = await readProfile(file);
    if (profile?.key === key && (await isUpToDate(profile, file, directory, signal))) {
      return { profile, file, fromCache: true };
    }
  }
  return measureProfile(directory, { quick: true, ...(signal ? { signal } : {}) });
}

/** The profile in a file of the cache; undefined, and a note on stderr, when it cannot be read. */
async function readProfile(file: string): Promise<DeviceProfile | undefined> {
  try {
    return parseDeviceProfile(await readJson(file));
  } catch (error) {
    process.stderr.write(`nchunk: ${(error as Error).message}; measuring again.\n`);
    return undefined;
  }
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
