export { ChatTemplate, loadChatTemplate, renderChat } from "./chat.js";
export type { ChatMessage, ChatPart, RenderChatOptions } from "./chat.js";
export { decodeImage, MAX_PICTURE_PIXELS } from "./decode.js";
export type { DecodeOptions, PictureSource } from "./decode.js";
export { boundPictureDecoder } from "./picture-decoder.js";
export { expandPlaceholders } from "./placeholders.js";
export type { PlaceholderCounts, Placeholders } from "./placeholders.js";
export {
  imageTokenCount,
  prepareImages,
  prepareVideo,
  tooManyTiles,
  videoTokenCount,
} from "./prepare.js";
export type {
  ImageGrouping,
  PreparedImage,
  PreparedVideo,
  PrepareImagesOptions,
  PrepareOptions,
} from "./prepare.js";
export { loadProcessorConfig } from "./processor-config.js";
export type { PixelOptions, ProcessorConfig } from "./processor-config.js";
export { padPicture, resizePicture } from "./resample.js";
export type { Picture, ResampleFilter } from "./resample.js";
export { loadTokenizer } from "./tokenizer.js";
export type { DecodeTextOptions, EncodeOptions, TextCodec } from "./tokenizer.js";
