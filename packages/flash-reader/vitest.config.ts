import { defineConfig } from "vitest/config";

export default defineConfig({ test: { name: "flash-reader", include: ["test/**/*.test.ts"] } });
