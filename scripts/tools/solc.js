// The two calls that forge makes of a compiler, answered by solc-js: `--version`, and `--standard-json` on stdin.
// Sources come inside the JSON, so the paths that forge passes along (--base-path, --allow-paths) mean nothing here.
"use strict";
const fs = require("fs");
const path = require("path");
const { speedUp } = require("./invoke.js");

const folder = path.join(__dirname, "../../.tools/npm/solidity/node_modules/solc");
speedUp(fs.readFileSync(path.join(folder, "soljson.js"), "utf8"));
const solc = require(folder);

if (process.argv.includes("--version")) {
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
} else if (process.argv.includes("--standard-json")) {
  fs.writeFileSync(1, solc.compile(fs.readFileSync(0, "utf8")));
} else {
  console.error("This solc knows only --version and --standard-json.");
  process.exit(2);
}
