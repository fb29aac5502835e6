// What the dashboards are looked at for: a service that works, walks the road there and back, and loses actors.
import { seed, until } from '../console/service.mjs';

/** A table of another program's events; so many rows. */
export const shop = (rows) => `
CREATE TABLE IF NOT EXISTS public.shop (seq bigserial, kind text, sid text, version int, id uuid DEFAULT gen_random_uuid(), type text, data jsonb, made timestamptz DEFAULT now());
INSERT INTO public.shop (kind, sid, version, type, data) SELECT 'cart', 'c' || n, 1, 'CartFilled', '{"n": 1}' FROM generate_series(1, ${rows}) n;`;

/** The source as the configuration describes it. */
export const source = (name, url) => `
[migration.sources.${name}]
url = "${url}"
table = "public.shop"
order = "seq"
stream_type = "kind"
stream_id = "sid"
version = "version"
version_base = 1
event_id = "id"
event_type = "type"
data = "data"
time = "made"
lag = "0s"
`;

/** What a service needs so that it can be walked through in minutes. */
export const CONFIG = `
[migration]
archive_after = "0s"
[migration.gates]
s3_led_for = "0s"
`;

const films = '/api/v1/databases/films/classes/Movie/instances';

/** Reads of every kind, until `stop()`. */
function reads(node) {
  let going = true;
  const live = new AbortController();
  // A live stream, held open.
  const stream = fetch(`${node.url}/api/v1/events`, { headers: { accept: 'text/event-stream' }, signal: live.signal })
    .then(async (answer) => { for await (const _ of answer.body); }).catch(() => {});
  const work = (async () => {
    for (let i = 0; going; i += 1) {
      await node.get(`${films}/metropolis`);
      await node.get(`${films}/metropolis?at_version=2`);
      await node.get(`${films}/metropolis/history`);
      await node.get(`/api/v1/streams/watch/${node.job}-0-${i % 20}/events`);
      await node.get('/api/v1/events?limit=50');
      await node.get('/api/v1/databases');
      await node.get('/api/v1/databases/films/classes');
      await node.api('/databases/films/classes/Movie/instances/query', { filters: [{ field: 'year', op: 'gte', value: 1900 }] }).catch(() => {});
      if (i % 5 === 0) await node.api(films.slice(7), { data: { title: `Film ${i}`, year: 1900 + (i % 100) } }).catch(() => {});
      if (i % 7 === 0) await node.get('/api/v1/databases/nowhere');
      await new Promise((then) => { setTimeout(then, 30); });
    }
  })();
  return { stop: async () => { going = false; live.abort(); await work; await stream; } };
}

/** Waits until the outbox is empty and the read model has everything. */
const settled = (node) => until('the outbox and the read model', 60, async () => {
  const [outbox, projections] = [await node.api('/admin/outbox'), await node.api('/admin/projections')];
  return outbox.depth === 0 && projections.items.every((each) => (each.lag_commits ?? 0) < 5);
});

/** The whole walk, under load. `say` is told each step. */
export async function walk(node, say) {
  await seed(node);
  let load = node.steady(4, 25);
  const reading = reads(node);
  say('load');
  await new Promise((then) => { setTimeout(then, 8000); });
  await node.oms('backfill', '--source', 'shop');
  say('imported');
  await node.mode('dual_write', '--lead', 'postgres');
  // A backfill follows what is written for as long as something is.
  await load.stop();
  await node.oms('backfill');
  await node.oms('verify');
  const [done, items] = [await node.figure('oms_job_items_done{kind="verify"}'), await node.figure('oms_job_items{kind="verify"}')];
  // What was written meanwhile is compared too.
  if (!(items > 0 && done >= items)) throw new Error(`a verification that is done shows ${done} of ${items}`);
  load = node.steady(4, 25);
  say('verified');
  await node.mode('dual_write', '--lead', 's3');
  for (let i = 0; i < 300; i += 1) await node.get(`${films}/metropolis/history`);
  await node.mode('dual_write', '--lead', 'postgres');
  await node.oms('verify');
  await node.mode('dual_write', '--lead', 's3');
  await settled(node);
  await node.oms('verify');
  say('S3 leads');
  await node.oms('drill', 'kill', '--rounds', '1');
  say('one actor of each kind was killed');
  await node.killActor('event_store/0', 'arbiter');
  await new Promise((then) => { setTimeout(then, 4000); });
  await settled(node);
  await node.kill();
  await node.run();
  say('it was killed and started again');
  await settled(node);
  await node.mode('s3_only', '--force');
  say('s3_only');
  await node.oms('archive', '--keep-rows');
  await new Promise((then) => { setTimeout(then, 5000); });
  await reading.stop();
  return load.stop();
}
