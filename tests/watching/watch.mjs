// The dashboards and the alerts on a real Prometheus that scrapes real services. `node watch.mjs OUT [PART…]`: writes
// what came of it below OUT; parts are `life` and `faults`, both where none is named. Ends with 1 when a panel has no
// data, a rule fired without its fault, or did not fire.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dashboards, text } from './dashboards.mjs';
import * as faults from './faults.mjs';
import { CONFIG, shop, source, walk } from './life.mjs';
import { seed } from '../console/service.mjs';
import { Node, running } from './node.mjs';
import { asked } from './panels.mjs';
import { Line, S3Line } from './proxy.mjs';
import { Prometheus, s3 as s3Server } from './servers.mjs';
import { Watchman } from './watchman.mjs';

const [out, ...parts] = process.argv.slice(2);
if (!out) throw new Error('node watch.mjs OUT [life|faults]');
const wanted = (part) => !parts.length || parts.includes(part);
const only = process.env.OMS_WATCH_SCENES?.split(',');
const begun = Date.now();
const say = (what) => console.error(`${String(Math.round((Date.now() - begun) / 1000)).padStart(5)} s  ${what}`);

const rules = text('deploy', 'alerts.yml');
const names = new Set([...rules.matchAll(/- alert: (\w+)/g)].map(([, name]) => name));

mkdirSync(out, { recursive: true });
const dir = mkdtempSync(join(tmpdir(), 'oms-watch-'));
const ends = [];
const ending = (thing) => { ends.unshift(thing); return thing; };
const troubles = [];

const prometheus = ending(await Prometheus.start(dir, rules));
const watchman = new Watchman(prometheus, names, say);
const nodes = new Set();
const targets = () => [...nodes].map(({ job, instance }) => ({ job, instance }));
const scrape = (list) => prometheus.scrape(list);

async function node(...args) {
  const one = ending(await Node.begin(...args));
  nodes.add(one);
  scrape(targets());
  say(`${one.job} runs as process ${one.child.pid}`);
  return one;
}

/** A scene that fails is told at the end; those after it are played. */
async function scene(name, play) {
  if (only && !only.includes(name)) return;
  say(`-- ${name}`);
  await play().catch((error) => { troubles.push(`${name}: ${error.message}`); say(`   ${error.stack}`); });
}

async function life(main) {
  const start = Date.now() / 1000;
  await scene('a service that works', async () => {
    const load = main.steady(2, 50);
    await new Promise((then) => { setTimeout(then, 10_000); });
    await watchman.quiet([main]);
    await load.stop();
    const counts = await walk(main, say);
    say(`writes by answer: ${JSON.stringify(counts)}`);
  });
  const end = Date.now() / 1000;
  const known = new Set(await prometheus.ask('label/__name__/values'));
  const drawn = [];
  for (const dashboard of dashboards) {
    await scene(`the panels of ${dashboard.uid}`, async () => {
      // All processes as one, and one chosen from the lists.
      for (const which of [{}, { job: main.job, instance: main.instance }]) {
        const answer = await asked(dashboard, prometheus, { start, end, names: known, ...which });
        if (!which.job) drawn.push({ dashboard, ...answer });
        const asks = answer.drawn.reduce((sum, { targets: each }) => sum + each.length, 0);
        say(`   ${answer.drawn.length} panels, ${asks} queries, ${answer.wrong.length} wrong`);
        troubles.push(...answer.wrong.map((wrong) => `${which.job ? 'one instance' : 'all'}: ${wrong}`));
      }
    });
  }
  writeFileSync(join(out, 'panels.json'), JSON.stringify(drawn));
}

/** A service on stores of others, with a line to each that can be cut. */
async function exposed(job, { stores, gateway, broker, bucket, args, more = '' }) {
  const url = new URL(stores.endpoints.postgres);
  const postgres = ending(await Line.to(Number(url.port || 5432)));
  const s3 = ending(await S3Line.to(gateway.port));
  postgres.stop = postgres.close;
  s3.stop = s3.close;
  url.port = String(postgres.port);
  const one = await node(job, `${CONFIG.replace("[migration]", "[migration]\nhandoff_timeout = \"4s\"")}
[migration.guardrail]
window = "10s"
min_writes = 20
patience = "2s"
[s3]
endpoint = "http://127.0.0.1:${s3.port}"
region = "us-east-1"
bucket = "${bucket}"
access_key = "${gateway.access}"
secret_key = "${gateway.secret}"
request_timeout = "10s"
[postgres]
url = "${url}"
schema = "${bucket}"
[kafka]
bootstrap = "${broker.endpoints.kafka}"
[log]
append_deadline = "2s"
[http]
request_deadline = "5s"
${more}`, args);
  const direct = new URL(stores.endpoints.postgres);
  direct.searchParams.set('options', `-csearch_path=${bucket}`);
  one.database = String(direct);
  return { node: one, postgres, s3 };
}

async function everyFault(stores, main) {
  const gateway = ending(await s3Server(dir));
  const broker = await node('oms-broker', '', ['--mode', 's3_only']);
  await scene('processes', async () => {
    const restarted = await node('oms-restarted', '', ['--mode', 's3_only']);
    await faults.processes({ watchman, node: broker, restarted, scrape, targets });
    nodes.delete(restarted);
    await restarted.stop();
  });
  const far = ending(await Line.to(Number(new URL(stores.endpoints.postgres).port || 5432)));
  far.stop = far.close;
  const source_url = new URL(stores.endpoints.postgres);
  source_url.port = String(far.port);
  const one = await exposed('oms-watch', { stores, gateway, broker, bucket: 'watch', more: source('far', source_url) });
  const refused = await exposed('oms-refused', { stores, gateway, broker, bucket: 'refused', args: ['--mode', 's3_only'] });
  await scene('quiet', async () => {
    await seed(one.node);
    const loads = [one.node, refused.node].map((each) => each.steady(2, 50));
    await new Promise((then) => { setTimeout(then, 10_000); });
    await Promise.all(loads.map((load) => load.stop()));
    await watchman.quiet([one.node, refused.node]);
  });
  // It takes more than five minutes: beside the others.
  const long = scene('puts are refused', () => faults.stopped({ watchman, node: refused.node, s3: refused.s3 }));
  const all = { watchman, ...one };
  await scene('PostgreSQL leads', () => faults.withPostgresLeading(all));
  await scene('a copy', () => faults.withACopy(all));
  await scene('two processes', async () => {
    const other = await exposed('oms-other', { stores, gateway, broker, bucket: 'watch' });
    await faults.apart({ ...all, other: other.node, otherPostgres: other.postgres, otherS3: other.s3 });
    nodes.delete(other.node);
    scrape(targets());
  });
  await scene('S3 leads', () => faults.withS3Leading(all));
  await scene('delivery', () => faults.delivery({ ...all, broker }));
  await scene('an import', () => faults.imports({ ...all, line: far }));
  await scene('an altered log', async () => {
    const { node: small } = await exposed('oms-altered', { stores, gateway, broker, bucket: 'altered', args: ['--mode', 's3_only'] });
    await faults.altered({ watchman, node: small, folder: join(gateway.folder, 'altered') });
  });
  await scene('actors', () => faults.actors({ watchman, node: main }));
  await scene('a disk', async () => {
    const full = await node('oms-full', `[embedded]\nreserve_bytes = ${faults.reserve(tmpdir())}\n`, ['--mode', 's3_only']);
    await faults.disk({ watchman, node: full });
  });
  await long;
  await scene('no targets', () => faults.absent({ watchman, scrape }));
}

/** Each rule, with what made it fire; what is missing is told. */
function fired() {
  return Object.fromEntries([...names].map((name) => {
    const row = watchman.rows.get(name);
    const why = faults.NOT_PROVOKED.get(name);
    if (row && why) troubles.push(`${name} fired and is named as one that cannot be provoked`);
    if (!row && !why && !watchman.missing.some((each) => each.startsWith(`${name} `))) troubles.push(`${name} was fired by no fault`);
    return [name, row ?? { why }];
  }));
}

// What was started is ended also when the run is.
const stop = async () => {
  for (const thing of ends.splice(0)) await thing.stop().catch((error) => say(error.message));
  for (const child of running) child.kill('SIGTERM');
  if (!process.env.OMS_WATCH_KEEP) rmSync(dir, { recursive: true, force: true });
};
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => { stop().finally(() => process.exit(130)); });

try {
  const stores = ending(await Node.begin('oms-stores', '', ['--mode', 's3_only']));
  await stores.sql(shop(500));
  const main = await node('oms', `${CONFIG}${source('shop', stores.endpoints.postgres)}`);
  if (wanted('life')) await life(main);
  if (wanted('faults')) {
    await everyFault(stores, main);
    const rows = fired();
    writeFileSync(join(out, 'alerts.json'), JSON.stringify(rows, null, 1));
    say(`${Object.values(rows).filter((row) => row.fault).length} of ${names.size} rules fired`);
    troubles.push(...watchman.missing);
  }
} finally {
  await stop();
}
troubles.forEach((trouble) => console.error(`WRONG: ${trouble}`));
say(troubles.length ? `${troubles.length} things are wrong` : 'nothing is wrong');
process.exit(troubles.length ? 1 : 0);
