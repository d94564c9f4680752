import { defineConfig } from "vitest/config";

export default defineConfig({ test: { name: "chunk-selector", include: ["test/**/*.test.ts"] } });
