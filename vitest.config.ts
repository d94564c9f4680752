import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: ["packages/*", "apps/nchunk"],
    // Two cores: native pools and child processes need room beside the workers.
    maxWorkers: 2,
  },
});
