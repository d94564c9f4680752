import { defineConfig } from "vitest/config";

export default defineConfig({
  // Whole commands run in child processes, on machines that may be slow.
  test: { name: "nchunk", include: ["test/**/*.test.ts"], testTimeout: 180_000 },
});
