import { defineConfig } from "vitest/config";

export default defineConfig({ test: { name: "weight-store", include: ["test/**/*.test.ts"] } });
