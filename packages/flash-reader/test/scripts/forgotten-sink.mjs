// Nobody but the stream holds on to the sink.
import { addon, prepare } from "./slices.mjs";
import { options, path } from "./support.mjs";

const { reader, requests } = await prepare(path, options);
let landed = 0;
for (let i = 0; i < 20; i++) {
  const streaming = reader.streamSlices(requests, addon.collectingSink(true));
  globalThis.gc();
  ({ requests: landed } = await streaming);
}
const sink = addon.collectingSink(true);
await reader.streamSlices(requests, sink);
console.log(JSON.stringify({ landed: landed > 0 ? addon.collected(sink).landed.length : 0 }));
await reader.close();
