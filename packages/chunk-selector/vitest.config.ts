import { defineConfig } from "vitest/config";

export default defineConfig({
  // No test waits for anything; the limit only has to hold on a machine that is busy with other work.
  test: { name: "chunk-selector", include: ["test/**/*.test.ts"], testTimeout: 60_000 },
});
