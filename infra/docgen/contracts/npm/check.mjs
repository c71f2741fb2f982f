// Check contracts with their readers' tools: node check.mjs FOLDER...
// Every *.schema.json must compile with ajv in strict mode, and every asyncapi*.yaml must be valid for the AsyncAPI parser.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Parser } from "@asyncapi/parser";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const faults = [];
let checked = 0;

function check(file, test) {
  checked += 1;
  return Promise.resolve()
    .then(test)
    .catch((error) => faults.push(`${file}: ${error.message}`));
}

async function parse(file) {
  const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"), { source: file });
  const errors = diagnostics.filter(({ severity }) => severity === 0);
  if (!document || errors.length > 0) {
    throw new Error(errors.map(({ path, message }) => `${path.join(".")}: ${message}`).join("\n  "));
  }
}

for (const folder of process.argv.slice(2)) {
  const names = readdirSync(folder);
  const ajv = addFormats(new Ajv2020({ strict: true }));
  const schemas = names
    .filter((name) => name.endsWith(".schema.json"))
    .map((name) => [join(folder, name), JSON.parse(readFileSync(join(folder, name), "utf8"))]);
  for (const [, schema] of schemas) ajv.addSchema(schema);
  for (const [file, schema] of schemas) await check(file, () => ajv.getSchema(schema.$id));
  for (const name of names.filter((name) => /^asyncapi.*\.yaml$/.test(name))) {
    await check(join(folder, name), () => parse(join(folder, name)));
  }
}

for (const fault of faults) console.error(fault);
console.log(`${checked} contracts checked, ${faults.length} with faults`);
process.exit(checked === 0 || faults.length > 0 ? 1 : 0);
