/** Untyped on purpose: packages/flash-reader/src/binding.ts is the one place that types this addon. */
declare const addon: unknown;
export = addon;
