/** The raw binding; `packages/vlm-executor/src/binding.ts` is where it is typed. */
declare const addon: unknown;
export = addon;
