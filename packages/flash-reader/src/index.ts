export { FlashReader } from "./reader.js";
export type { BackendInfo, FlashReaderOptions, ReaderStats, ReadOptions } from "./reader.js";
export { ReadResult } from "./read-result.js";
export { LandingBuffer } from "./landing-buffer.js";
export { MAX_REQUEST_BYTES } from "./ranges.js";
export type { ByteRanges, PlanLayout } from "./ranges.js";
export { FlashReaderError } from "./errors.js";
export type { FlashReaderErrorCode, FlashReaderErrorFields } from "./errors.js";
