import { defineConfig } from "vitest/config";

export default defineConfig({
  // Tests write, sync and convert real files, on disks shared with others.
  test: {
    name: "weight-store",
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
