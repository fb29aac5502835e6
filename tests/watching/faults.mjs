// Real faults, one after the other, and the rule that each must make fire. Where a fault is ordered from the inside (a
// fail point, a row in the database) its words say so.
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:http';
import { readdirSync, readFileSync, statfsSync, truncateSync, writeFileSync, rmSync, openSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../console/service.mjs';

const later = (ms) => new Promise((then) => { setTimeout(then, ms); });
const MOVIES = '/databases/films/classes/Movie/instances';

/** Whether a gauge of both partitions is as it must be. */
async function each(node, gauge, good) {
  const figures = await Promise.all([0, 1].map((partition) => node.figure(`${gauge}{partition="${partition}"}`)));
  return figures.every((figure) => figure !== undefined && good(figure));
}

const copied = (node) => each(node, 'oms_unmirrored_commits', (left) => left === 0);

/** Rules that are not provoked, and why; docs/LIMITS.md names them too. */
export const NOT_PROVOKED = new Map([]);

/** The store that leads is slow, then away; a limit, a panic, the audit trail. PostgreSQL leads. */
export async function withPostgresLeading({ watchman, node, postgres }) {
  const at = { instance: node.instance };
  const burst = () => Promise.all(Array.from({ length: 100 }, () => node.write('one-stream')));
  await burst();
  await watchman.expect('OmsOverloaded', '100 writes to one stream at once, again and again', at, { meanwhile: burst });

  postgres.delay = 400;
  await watchman.expect('OmsWritesSlow', 'each answer of PostgreSQL, which leads, comes 0.4 s late', at,
    { within: 120, meanwhile: () => Promise.all(Array.from({ length: 20 }, (_, i) => node.write(`slow-${i}`))) });
  postgres.mend();

  const load = node.steady(16, 20);
  postgres.break();
  await watchman.expect('OmsWritesHalted', 'PostgreSQL, which leads, is cut off', at);
  await watchman.expect('OmsPostgresFailing', 'PostgreSQL is cut off', at, { within: 120 });
  await watchman.expect('OmsRequestsFail', 'PostgreSQL, which leads, is cut off under load', at, { within: 180 });
  postgres.mend();
  await until('writes again', 60, async () => (await node.write('again')) === 201);
  await load.stop();

  await node.failpoint('postgres.query_instances.before', 'panic');
  await node.api(`${MOVIES}/query`, { filters: [] }).catch(() => {});
  await watchman.expect('OmsPanics', 'a panic in the answer to a query, ordered at a fail point', at);

  await node.sql('ALTER TABLE audit ADD CONSTRAINT none_any_more CHECK (false) NOT VALID');
  await node.failpoint('s3.delete.before', 'error', 0);
  await watchman.expect('OmsAuditLost', 'PostgreSQL refuses rows of the audit trail (a constraint)', at);
  await node.sql('ALTER TABLE audit DROP CONSTRAINT none_any_more');

  await node.api('/admin/migration/mode', { mode: 'dual_write', lead: 's3', reason: 'too early' }).catch(() => {});
  await watchman.expect('OmsSwitchNotDone', 'a switch is ordered before anything is verified, and refused by its gates', at);
}

/** The copy, and a hand-off that cannot end. */
export async function withACopy({ watchman, node, s3 }) {
  const at = { instance: node.instance };
  await node.mode('dual_write', '--lead', 'postgres');
  await node.oms('backfill');
  s3.break();
  const load = node.steady(24, 0);
  await watchman.expect('OmsS3Failing', 'S3 is cut off while PostgreSQL leads', at, { within: 120 });
  await watchman.expect('OmsCopyFails', 'S3, which has the copy, is cut off', at, { within: 90 });
  await watchman.expect('OmsCopyLags', 'S3, which has the copy, is cut off while thousands of writes come', at, { within: 180 });
  await load.stop();
  s3.mend();
  await node.oms('backfill');
  await node.oms('verify');

  // Everything is copied, the gates are open; what a hand-off puts into the bucket itself is refused.
  await until('the copy', 60, () => copied(node));
  s3.refusePuts(503, 'SlowDown');
  await node.api('/admin/migration/mode', { mode: 'dual_write', lead: 's3', reason: 'a hand-off that cannot end', force: true });
  await watchman.expect('OmsHandoffDoesNotEnd', 'S3 refuses every put in the middle of a hand-off', at);
  // Longer than migration.handoff_timeout.
  await later(6000);
  s3.mend();
  await watchman.expect('OmsHandoffUndone', 'S3 refused puts for longer than migration.handoff_timeout', at, { within: 120 });
  await until('writes again', 60, async () => (await node.write('again')) === 201);
}

/** Two processes on one log, of which one does not hear of a hand-off. */
export async function apart({ watchman, node, other, otherPostgres, otherS3 }) {
  otherPostgres.break();
  otherS3.break();
  await node.oms('verify');
  await node.mode('dual_write', '--lead', 's3', '--force');
  await watchman.expect('OmsLeadersDisagree', 'a process is cut off from both stores while another hands the lead over', {}, { within: 60 });
  otherPostgres.mend();
  otherS3.mend();
  await other.stop();
}

/** S3 leads, PostgreSQL has the copy: they differ; each is away. */
export async function withS3Leading({ watchman, node, s3, postgres }) {
  const at = { instance: node.instance };
  await until('the copy', 60, () => copied(node));
  await node.sql(`UPDATE events SET envelope = replace(envelope::text, 'Metropolis', 'Nosferatu')::json WHERE stream_type = 'instance'`);
  await watchman.expect('OmsShadowReadsDiffer', 'events in PostgreSQL, which has the copy, are changed by hand, and read', at,
    { meanwhile: () => Promise.all(Array.from({ length: 60 }, () => node.get(`/api/v1${MOVIES}/metropolis/history`))) });
  await watchman.expect('OmsGuardrailExceeded', 'a shadow read differs in a young stage', at,
    { meanwhile: () => Promise.all(Array.from({ length: 60 }, (_, i) => node.write(`guard-${i % 10}`).then(() => node.get(`/api/v1${MOVIES}/metropolis/history`)))) });
  await node.oms('verify').catch(() => {});
  await watchman.expect('OmsStoresDiffer', 'events in PostgreSQL are changed by hand, and a verification runs', at);

  s3.break();
  await watchman.expect('OmsFallbackReads', 'S3, which leads, is cut off while something is read', { ...at, from: 's3' },
    { meanwhile: () => Promise.all(Array.from({ length: 20 }, (_, i) => node.get(`/api/v1/streams/watch/${node.job}-${i % 20}-${i}/events`))) });
  s3.refusePuts(507, 'XMinioStorageFull');
  await watchman.expect('OmsStorageFull', 'S3 says that it is full (507 to each put)', at, { within: 60, meanwhile: () => node.write('full') });
  s3.mend();
  await until('writes again', 60, async () => (await node.write('again')) === 201);

  postgres.break();
  const load = node.steady(24, 0);
  await watchman.expect('OmsProjectionLags', 'PostgreSQL is cut off while S3 leads and thousands of writes come', at, { within: 180 });
  await load.stop();
  postgres.mend();
  await until('the read model', 120, () => each(node, 'oms_projection_lag_commits', (lag) => lag < 10));
}

/** What cannot be delivered or projected; and a broker that dies with its process. */
export async function delivery({ watchman, node, broker }) {
  const at = { instance: node.instance };
  // The API takes in nothing that the projection could not: see law 3's tests for what would be parked.
  await node.sql(`INSERT INTO read_model_parked (generation, partition, commit_offset, idx, stream, event_type, reason)
    SELECT generation, 0, 0, 99, 'instance/planted', 'InstanceMoved', 'planted' FROM read_model_generations`);
  await watchman.expect('OmsProjectionParked', 'a row is put among the parked events by hand', at);
  await node.sql("DELETE FROM read_model_parked WHERE reason = 'planted'");
  const fell = { instance: broker.instance };
  await broker.kill();
  await watchman.expect('OmsDown', 'a process is killed (SIGKILL)', fell, { within: 30 });
  await watchman.expect('OmsDeliveryHalted', 'the broker is killed', at, { within: 60, meanwhile: () => node.write('undelivered') });
  await watchman.expect('OmsOutboxOld', 'the broker is away for more than a minute', at, { within: 120, meanwhile: () => node.write('undelivered') });
  await node.sql(`WITH gone AS (DELETE FROM outbox WHERE stream_id = 'undelivered' RETURNING *)
    INSERT INTO dead_letters (partition, commit_offset, idx, event_id, stream_type, stream_id, version, topic, epoch, mode,
      start_byte, len_bytes, body, attempts, last_error, created)
    SELECT partition, commit_offset, idx, event_id, stream_type, stream_id, version, topic, epoch, mode,
      start_byte, len_bytes, body, 10, 'planted', created FROM gone`);
  await watchman.expect('OmsDeadLetters', 'rows of the outbox are put among the dead letters by hand', at);
}

/** The log is altered where it lies; then the service is pointed at another bucket. */
export async function altered({ watchman, node, folder }) {
  const at = { instance: node.instance };
  for (let i = 0; i < 40; i += 1) await node.write(`altered-${i}`);
  const partition = join(folder, 'events', '0000');
  const file = join(partition, readdirSync(partition).sort()[3]);
  const before = readFileSync(file);
  writeFileSync(file, Buffer.alloc(before.length, 'x'));
  await node.kill();
  await node.run();
  await node.oms('projections', 'rebuild', 'ontology');
  await watchman.expect('OmsLogDamaged', 'an object of the log is overwritten in the bucket, and the read model rebuilt', at, { within: 90 });
  writeFileSync(file, before);
  await node.kill();
  writeFileSync(node.config, readFileSync(node.config, 'utf8').replace('bucket = "altered"', 'bucket = "another"'));
  // It is never ready so: nobody waits for that.
  node.run().catch(() => {});
  await watchman.expect('OmsCopyNotOfThisLog', 'the process is started again on another bucket, with the same database', at, { within: 60 });
}

/** Kills of actors, from the weakest to those that no restart helps. */
export async function actors({ watchman, node }) {
  const at = { instance: node.instance };
  await node.killActor('event_store/0', 'hang');
  // Of these some are for it, and wait as long as it hangs.
  const waiting = Array.from({ length: 8 }, (_, i) => node.write(`stuck-${i}`));
  await watchman.expect('OmsActorStuck', 'an actor is not run for 10 s (ordered: hang)', at, { within: 30 });
  await Promise.all(waiting);
  await node.killActor('event_store/1', 'arbiter');
  await watchman.expect('OmsThreadEnded', 'the thread of an actor ends (ordered: arbiter)', at);
  await watchman.expect('OmsActorRestarts', 'the relay is killed again and again (ordered: panic)', at,
    { meanwhile: async () => { await node.killActor('relay', 'panic').catch(() => {}); await later(3000); } });
  await watchman.expect('OmsActorEscalated', 'the migration_mode actor is killed beyond its limit (ordered: panic)', at,
    { within: 120, meanwhile: async () => { await node.killActor('migration_mode', 'panic').catch(() => {}); await later(500); } });
}

/** The disk runs low: a file takes the room. The service was started with a reserve a little below what is free. */
export const ROOM = 600 * 1024 * 1024;

export function reserve(folder) {
  const { bavail, bsize } = statfsSync(folder);
  return Math.max(0, bavail * bsize - ROOM);
}

export async function disk({ watchman, node }) {
  const at = { instance: node.instance };
  await watchman.expect('OmsDiskFills', 'the reserve is a little below the room that is free', at);
  const file = join(node.dir, 'filler');
  closeSync(openSync(file, 'w'));
  try {
    execFileSync('fallocate', ['-l', String(2 * ROOM), file]);
    await watchman.expect('OmsDiskFull', 'a file takes the room of the reserve', at, { within: 60 });
  } finally {
    truncateSync(file, 0);
    rmSync(file);
  }
}

/** Puts are refused for more than five minutes, and nothing else is. */
export async function stopped({ watchman, node, s3 }) {
  s3.refusePuts(403, 'AccessDenied');
  await watchman.expect('OmsEmbeddedStoreStopped', 'S3 refuses each put for want of rights for more than five minutes, reads go on', { instance: node.instance },
    { within: 480, meanwhile: () => node.write('refused').then(() => later(1500)) });
}

/** Processes that are started again and again, run out of files, or are none. */
export async function processes({ watchman, node, restarted, scrape, targets }) {
  for (let i = 0; i < 3; i += 1) {
    // Each start must have been seen by Prometheus.
    await later(4000);
    await restarted.kill();
    await restarted.run();
  }
  await watchman.expect('OmsRestartsOften', 'a process is killed and started again three times', { instance: restarted.instance });
  const open = readdirSync(`/proc/${node.child.pid}/fd`).length;
  execFileSync('prlimit', [`--pid=${node.child.pid}`, `--nofile=${Math.ceil(open * 1.1)}:`]);
  await watchman.expect('OmsFilesRunOut', 'the limit of open files is lowered to a little above what is open', { instance: node.instance });
  execFileSync('prlimit', [`--pid=${node.child.pid}`, '--nofile=4096:']);
  const stranger = createServer((_, answer) => { answer.setHeader('content-type', 'text/plain; version=0.0.4'); answer.end('stranger 1\n'); });
  await new Promise((done) => { stranger.listen(0, '127.0.0.1', done); });
  const instance = `127.0.0.1:${stranger.address().port}`;
  scrape([...targets(), { job: 'oms-stranger', instance }]);
  await watchman.expect('OmsMetricsMissing', 'another program answers where oms was', { instance });
  scrape(targets());
  stranger.closeAllConnections();
  await new Promise((done) => { stranger.close(done); });
}

/** An import whose source goes away before the first row. */
export async function imports({ watchman, node, line }) {
  const at = { instance: node.instance };
  // So slow that the line can be cut between the count of the rows and the first of them.
  line.delay = 1500;
  await node.oms('backfill', '--source', 'far', '--detach');
  await until('the count of rows', 60, async () => (await node.figure('oms_import_rows_left{source="far"}')) > 0);
  line.break();
  await watchman.expect('OmsImportStuck', 'the source of an import is cut off', at, { within: 60 });
  line.mend();
}

/** Nobody is asked any more. */
export async function absent({ watchman, scrape }) {
  scrape([]);
  await watchman.expect('OmsAbsent', 'every target is taken out of the configuration of Prometheus', {}, { within: 60 });
}
