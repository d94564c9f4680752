"use strict";
// The only place that knows where the compiled binding lies.
const path = require("node:path");

const file = path.join(__dirname, "build", "Release", "flash_io.node");
try {
  module.exports = require(file);
} catch (cause) {
  throw new Error(
    `The native part of @neuron-chunking/flash-io-addon could not be loaded from ${file}. ` +
      "In a clone of the repository run `npm run setup` to build it.",
    { cause },
  );
}
