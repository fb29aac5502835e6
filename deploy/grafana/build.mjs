#!/usr/bin/env node
// Makes the dashboards, `oms-*.json` in this folder, from what is written in `source`. After a change there:
//
//     node deploy/grafana/build.mjs            writes them anew
//     node deploy/grafana/build.mjs --check    fails when one of them is old
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
const NAMES = ['overview', 'migration', 'delivery', 'economy', 'actors', 'process'];

/** Names of files and what they must hold. */
export async function built() {
  const files = new Map();
  for (const name of NAMES) {
    const { default: dashboard } = await import(`./source/${name}.mjs`);
    files.set(`oms-${name}.json`, `${JSON.stringify(dashboard, null, 2)}\n`);
  }
  return files;
}

/** Names of the files in the folder that are not as they must be. */
export async function old() {
  const files = await built();
  const there = readdirSync(folder).filter((name) => name.endsWith('.json'));
  const text = (name) => (there.includes(name) ? readFileSync(join(folder, name), 'utf8') : undefined);
  return [...new Set([...files.keys(), ...there])].filter((name) => text(name) !== files.get(name));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--check')) {
    const names = await old();
    if (names.length) {
      console.error(`old: ${names.join(', ')}: run node deploy/grafana/build.mjs`);
      process.exit(1);
    }
  } else {
    for (const [name, text] of await built()) writeFileSync(join(folder, name), text);
  }
}
