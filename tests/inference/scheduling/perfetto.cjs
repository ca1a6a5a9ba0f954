// Perfetto's trace processor, as its web interface runs it in a worker, on the standard streams of a Node process.
//
//   node perfetto.cjs DIRECTORY
//
// DIRECTORY holds Perfetto's engine_bundle.js and trace_processor*.wasm. Requests and replies are messages of its
// protocol, each after its length in four bytes, least first.
"use strict";
const fs = require("fs");
const path = require("path");

const directory = process.argv[2];

process.on("uncaughtException", (error) => { // whose default is to print the whole bundle, which is one line
  console.error(error instanceof Error || !error ? `${error && error.message}` : String(error));
  process.exit(1);
});

class Request { // what the bundle reads its WebAssembly with
  open(method, url) { this.file = path.join(directory, path.basename(url)); }
  send() {
    const bytes = fs.readFileSync(this.file);
    this.status = 200;
    this.response = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  }
}

const port = {
  postMessage(bytes) {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    fs.writeSync(1, length);
    for (let at = 0; at < bytes.length; ) at += fs.writeSync(1, bytes, at);
  },
};

// The bundle finds out by global names where it runs: it is told that this is a worker, and no Node.
const said = (...words) => console.error(...words);
const scope = {
  self: { location: { href: "http://localhost/" } },
  process: undefined,
  WorkerGlobalScope: class {},
  XMLHttpRequest: Request,
  console: { log: said, warn: said, error: said },
};
const bundle = fs.readFileSync(path.join(directory, "engine_bundle.js"), "utf8");
new Function(...Object.keys(scope), bundle)(...Object.values(scope));
scope.self.onmessage({ data: port });

let pending = Buffer.alloc(0);
process.stdin.on("data", (bytes) => {
  pending = Buffer.concat([pending, bytes]);
  while (pending.length >= 4 && pending.length >= 4 + pending.readUInt32LE(0)) {
    const end = 4 + pending.readUInt32LE(0);
    port.onmessage({ data: new Uint8Array(pending.subarray(4, end)) });
    pending = pending.subarray(end);
  }
});
