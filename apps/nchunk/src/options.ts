import { InvalidArgumentError } from "commander";

/** Option parsers: each turns one typed word into a value or says what it should have been. */
export function parseFraction(text: string): number {
  const value = Number(text);
  if (!(value >= 0 && value < 1)) {
    throw new InvalidArgumentError("Give a fraction from 0 to below 1, such as 0.5.");
  }
  return value;
}

export function parsePositiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError("Give a whole number of at least 1.");
  }
  return value;
}

export function parseGroupSize(text: string): 32 | 64 {
  if (text !== "32" && text !== "64") throw new InvalidArgumentError("Give 32 or 64.");
  return text === "32" ? 32 : 64;
}

export function parseSeed(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new InvalidArgumentError("Give a whole number of at least 0.");
  }
  return value;
}

export function parseTemperature(text: string): number {
  const value = Number(text);
  if (!(value >= 0 && value <= 100)) throw new InvalidArgumentError("Give a number from 0 to 100.");
  return value;
}

export function parseTopP(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 1)) throw new InvalidArgumentError("Give a number above 0, up to 1.");
  return value;
}

export function parseTokenIds(text: string): number[] {
  const ids = text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  if (ids.some((id) => !Number.isSafeInteger(id) || id < 0)) {
    throw new InvalidArgumentError("Give token ids separated by commas, such as 1,2,3.");
  }
  return ids;
}

const BYTE_UNITS: Record<string, number> = {
  "": 1,
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
};

export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text);
  const unit = match && BYTE_UNITS[match[2]];
  if (!unit) throw new InvalidArgumentError("Give a size such as 512MiB or 2GiB.");
  return Math.floor(Number(match[1]) * unit);
}

export function parseNonNegative(text: string): number {
  const value = Number(text);
  if (!(text.trim() !== "" && Number.isFinite(value) && value >= 0)) {
    throw new InvalidArgumentError("Give a number of at least 0.");
  }
  return value;
}

export function parsePositive(text: string): number {
  const value = Number(text);
  if (!(text.trim() !== "" && Number.isFinite(value) && value > 0)) {
    throw new InvalidArgumentError("Give a number above 0.");
  }
  return value;
}

export function parseSparsities(text: string): number[] {
  const values = text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  if (values.some((value) => !(value >= 0 && value < 1))) {
    throw new InvalidArgumentError("Give fractions from 0 to below 1, such as 0.3,0.5.");
  }
  return values;
}

const TIME_UNITS_NS: Record<string, number> = { ns: 1, us: 1e3, ms: 1e6, s: 1e9 };

/** A time in ns; the unit is a must, as a bare number would be anyone's guess. */
export function parseTimeNs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ns|us|ms|s)$/.exec(text);
  const value = match ? Number(match[1]) * TIME_UNITS_NS[match[2]] : 0;
  if (!(value > 0)) throw new InvalidArgumentError("Give a time such as 30ms or 1.5s.");
  return value;
}
