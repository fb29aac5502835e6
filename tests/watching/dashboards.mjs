// The dashboards as they are in the repository.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = process.env.OMS_ROOT ?? join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const folder = join(ROOT, 'deploy', 'grafana');

export const text = (...path) => readFileSync(join(ROOT, ...path), 'utf8');

export const dashboards = readdirSync(folder).filter((name) => name.endsWith('.json')).sort()
  .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')));
if (!dashboards.length) throw new Error(`there are no dashboards in ${folder}`);
