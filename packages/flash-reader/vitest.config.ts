import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    name: "flash-reader",
    include: ["test/**/*.test.ts"],
    // Child processes, workers and real files on machines that may be busy.
    testTimeout: 60_000,
  },
});
