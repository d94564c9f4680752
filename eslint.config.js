import js from "@eslint/js";
import tseslint from "typescript-eslint";

/** The layers of docs/architecture.md, lowest first: a package may import only those before it. */
const LAYERS = [
  { dir: "packages/latency-model", mayImport: [] },
  { dir: "packages/chunk-selector", mayImport: ["latency-model"] },
  { dir: "packages/flash-reader", mayImport: ["latency-model", "flash-io-addon"] },
  { dir: "packages/weight-store", mayImport: ["latency-model", "flash-reader"] },
  {
    dir: "packages/vlm-executor",
    mayImport: ["latency-model", "chunk-selector", "flash-reader", "weight-store", "kernels-addon"],
  },
  {
    dir: "apps/nchunk",
    mayImport: ["latency-model", "chunk-selector", "flash-reader", "weight-store", "vlm-executor"],
  },
];
const PROJECT_PACKAGES = [
  ...LAYERS.map(({ dir }) => dir.split("/")[1]),
  "flash-io-addon",
  "kernels-addon",
];
/** Pure TypeScript that also runs in a browser: no Node.js module may appear in it. */
const BROWSER_SAFE = new Set(["packages/latency-model", "packages/chunk-selector"]);

function layerRule({ dir, mayImport }) {
  const self = dir.split("/")[1];
  const forbidden = PROJECT_PACKAGES.filter((name) => name !== self && !mayImport.includes(name));
  const patterns = [
    {
      group: forbidden.map((name) => `@neuron-chunking/${name}`),
      message: `${dir} may import only: ${mayImport.join(", ") || "nothing of this project"} (layering, docs/architecture.md).`,
    },
    {
      group: ["@neuron-chunking/*/*"],
      message: "Import a package by its name, never its insides.",
    },
  ];
  if (BROWSER_SAFE.has(dir)) {
    patterns.push({ group: ["node:*"], message: `${dir} runs in a browser too.` });
  }
  return {
    files: [`${dir}/src/**/*.ts`],
    rules: { "@typescript-eslint/no-restricted-imports": ["error", { patterns }] },
  };
}

export default tseslint.config(
  {
    ignores: [
      "**/dist/**",
      "**/build/**",
      "**/build-*/**",
      "**/node_modules/**",
      "**/.turbo/**",
      "**/.cache/**",
      "**/fixtures/**",
    ],
  },
  js.configs.recommended,
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ["*.ts"] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-floating-promises": "error",
      "max-lines": ["error", { max: 400, skipBlankLines: true, skipComments: true }],
      "max-lines-per-function": ["error", { max: 70, skipBlankLines: true, skipComments: true }],
    },
  },
  ...LAYERS.map(layerRule),
  {
    files: ["**/*.js", "**/*.mjs", "**/*.cjs"],
    ...tseslint.configs.disableTypeChecked,
    languageOptions: {
      ...tseslint.configs.disableTypeChecked.languageOptions,
      globals: { console: "readonly", process: "readonly", URL: "readonly", Buffer: "readonly" },
    },
  },
  {
    files: ["**/*.cjs"],
    languageOptions: {
      globals: { require: "readonly", module: "writable", __dirname: "readonly" },
    },
    rules: { "@typescript-eslint/no-require-imports": "off" },
  },
  {
    files: ["**/test/**", "**/*.test.ts"],
    rules: { "max-lines-per-function": "off", "@typescript-eslint/unbound-method": "off" },
  },
);
