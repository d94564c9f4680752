// `npm test`: set-up if needed, then every check and every test of the repository. The last line is
// `N passed, N failed, N skipped` over all runners.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { QUIET_TURBO, ROOT, exitOnSetupError, runStep, setUp, turboCommand } from "./setup.mjs";

const RESULTS = path.join(ROOT, ".test-results");
const bin = (name) => path.join(ROOT, "node_modules/.bin", name);
const totals = { passed: 0, failed: 0, skipped: 0 };

function add(title, counts) {
  for (const key of Object.keys(totals)) totals[key] += counts[key];
  console.log(
    `${title}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`,
  );
}

/** A check without counts of its own is one test. */
function check(title, command, args) {
  console.log(`\n== ${title}`);
  const { status } = spawnSync(command, args, {
    cwd: ROOT,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...QUIET_TURBO },
  });
  const ok = status === 0;
  add(title, { passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0 });
  return ok;
}

/** Tests whose process died under them, which vitest reports by no name; says which. */
function unfinished({ testResults }) {
  let count = 0;
  for (const { name, assertionResults } of testResults) {
    const pending = assertionResults.filter(({ status }) => status === "pending").length;
    if (pending > 0)
      console.log(`Did not finish: ${pending} tests of ${path.relative(ROOT, name)}`);
    count += pending;
  }
  return count;
}

function runVitest() {
  console.log("\n== TypeScript tests");
  const file = path.join(RESULTS, "vitest.json");
  const { status } = spawnSync(
    bin("vitest"),
    ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${file}`],
    { cwd: ROOT, stdio: ["ignore", "inherit", "inherit"] },
  );
  let report;
  try {
    report = JSON.parse(readFileSync(file, "utf8"));
  } catch {
    add("TypeScript tests", { passed: 0, failed: 1, skipped: 0 });
    return;
  }
  const failedSuites = report.testResults.filter(
    (suite) => suite.status === "failed" && suite.assertionResults.length === 0,
  ).length;
  // An error outside every test (an unhandled rejection, say) fails the run without failing a test.
  const failed = report.numFailedTests + failedSuites + unfinished(report);
  add("TypeScript tests", {
    passed: report.numPassedTests,
    failed: failed === 0 && status !== 0 ? 1 : failed,
    skipped: report.numPendingTests + report.numTodoTests,
  });
}

/** The same native tests as built for use, and under the sanitizers. */
const NATIVE_BUILDS = [
  { title: "Native tests", folder: "build", sanitize: "" },
  {
    title: "Native tests, address and undefined behaviour sanitizers",
    folder: "build-asan",
    sanitize: "address,undefined",
  },
  { title: "Native tests, thread sanitizer", folder: "build-tsan", sanitize: "thread" },
];

async function runNative({ title, folder, sanitize }) {
  console.log(`\n== ${title}`);
  const build = path.join(ROOT, "native", folder);
  const file = path.join(RESULTS, `ctest-${folder}.xml`);
  try {
    await runStep("Configuring", "cmake", [
      "-S",
      "native",
      "-B",
      build,
      "-DCMAKE_BUILD_TYPE=Release",
      `-DFLASH_IO_SANITIZE=${sanitize}`,
      `-DNCHUNK_KERNELS_SANITIZE=${sanitize}`,
    ]);
    await runStep("Building", "cmake", ["--build", build, "--parallel", "2"]);
  } catch (error) {
    console.error(error.message);
    add(title, { passed: 0, failed: 1, skipped: 0 });
    return;
  }
  const args = [
    "--test-dir",
    build,
    "--output-on-failure",
    "--no-tests=error",
    "--output-junit",
    file,
  ];
  const { status } = spawnSync("ctest", args, {
    cwd: ROOT,
    stdio: ["ignore", "inherit", "inherit"],
  });
  const suite = readFileSync(file, "utf8").match(/<testsuite[\s\S]*?>/)?.[0] ?? "";
  const count = (name) => Number(suite.match(new RegExp(`\\b${name}="(\\d+)"`))?.[1] ?? 0);
  const skipped = count("skipped") + count("disabled");
  const failed = status !== 0 ? Math.max(1, count("failures")) : 0;
  add(title, { passed: count("tests") - failed - skipped, failed, skipped });
}

await exitOnSetupError(() => setUp({ withTests: true }));
rmSync(RESULTS, { recursive: true, force: true });
mkdirSync(RESULTS, { recursive: true });

check("Lint (layering included)", bin("eslint"), ["."]);
check("Format", bin("prettier"), ["--check", "--log-level=warn", "."]);
check("Types", ...turboCommand("typecheck"));
for (const build of NATIVE_BUILDS) await runNative(build);
runVitest();
check("Demonstration (npm run demo)", "npm", ["run", "--silent", "demo"]);

console.log(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exit(totals.failed === 0 ? 0 : 1);
