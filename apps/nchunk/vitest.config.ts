import { defineConfig } from "vitest/config";

export default defineConfig({ test: { name: "nchunk", include: ["test/**/*.test.ts"] } });
