import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    name: "vlm-executor",
    include: ["test/**/*.test.ts"],
    // Models run in these tests, on machines that may be busy.
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
