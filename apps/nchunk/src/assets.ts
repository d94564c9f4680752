import path from "node:path";
import { fileURLToPath } from "node:url";

/** The package's `assets` folder: beside `dist`, where this file ends up when built. */
const ASSETS = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..", "assets");

/** The small model that the demonstration asks, a Hugging Face checkpoint. */
export const DEMO_MODEL = path.join(ASSETS, "demo-model");
/** The questions it is asked, beside their pictures and clip. */
export const DEMO_QUESTIONS = path.join(ASSETS, "demo", "questions.json");
