import { defineConfig } from "vitest/config";

export default defineConfig({ test: { name: "latency-model", include: ["test/**/*.test.ts"] } });
