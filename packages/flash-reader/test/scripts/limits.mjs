// Reads under the limits of the shell that started this; says how, and whether the bytes were right.
import { closeSync, openSync, readFileSync } from "node:fs";
import { FlashReader } from "@neuron-chunking/flash-reader";
import { isRight, options, path, spread } from "./support.mjs";

const file = readFileSync(path);
const ranges = spread(50, 5000);

async function attempt(given) {
  try {
    const reader = await FlashReader.open(path, { ...options, ...given });
    const right = isRight(await reader.read(ranges), ranges, file);
    const { tier, refused } = reader.backend;
    await reader.close();
    return { right, tier, refused };
  } catch ({ code, errno }) {
    return { code, errno };
  }
}

const outcomes = { free: await attempt({}) };
if (process.argv[4] === "descriptors") {
  const taken = [];
  try {
    for (;;) taken.push(openSync("/dev/null"));
  } catch {
    // None is left; give some back.
  }
  outcomes.none = await attempt({});
  closeSync(taken.pop());
  outcomes.one = await attempt({});
  outcomes.explicit = await attempt({ backend: "io_uring" });
  closeSync(taken.pop());
  outcomes.two = await attempt({});
  closeSync(taken.pop());
  outcomes.three = await attempt({});
}
console.log(JSON.stringify(outcomes));
