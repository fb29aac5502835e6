// docs/ALERTS.md from what a run of `watch.mjs` wrote down: `node page.mjs ALERTS.JSON`.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, text } from './dashboards.mjs';
import { HASTE } from './servers.mjs';

const HEAD = `# Alerts

<!-- Written by a run: deploy/dev watching pictures -->

The rules of [deploy/alerts.yml](../deploy/alerts.yml), and what made each fire on a real Prometheus that scraped real
services; \`deploy/dev watching faults\` does it again, nightly. For that run, and in it alone, what a rule must hold for
(\`for:\`) was divided by ${HASTE}: a minute is a second. The windows of the expressions stay as they are. Before the first
fault no rule fired. S3 was versitygw and PostgreSQL a server of another process, each behind a line that can be cut,
slowed or made to refuse; where a fault was ordered from the inside its words say so.

What is to be done about an alert is in the section of the [runbook](../deploy/RUNBOOK.md) that it names.

| rule | wakes somebody | fault | fired |
|---|---|---|---|
`;

/** Rules and whether they page, in the order of the file. */
export function rules(yaml) {
  return [...yaml.matchAll(/- alert: (\w+)[^]*?severity: (\w+)/g)].map(([, name, severity]) => ({ name, severity }));
}

const [file] = process.argv.slice(2);
if (!file) throw new Error('node page.mjs ALERTS.JSON');
const fired = JSON.parse(readFileSync(file, 'utf8'));
const lines = rules(text('deploy', 'alerts.yml')).map(({ name, severity }) => {
  const { fault, why } = fired[name];
  return `| ${name} | ${severity === 'page' ? 'yes' : 'no'} | ${fault ?? '–'} | ${fault ? 'yes' : `no: ${why}`} |`;
});
writeFileSync(join(ROOT, 'docs', 'ALERTS.md'), `${HEAD}${lines.join('\n')}\n`);
