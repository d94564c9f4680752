import { defineConfig } from "vitest/config";

export default defineConfig({ test: { name: "vlm-executor", include: ["test/**/*.test.ts"] } });
