// A service of the tests' own: started on loopback with the embedded stack, ended by its id.
import { execFile, spawn } from 'node:child_process';
import { createWriteStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const BINARY = process.env.OMS_BINARY;
if (!BINARY) throw new Error('OMS_BINARY must name the built service: use `deploy/dev console`');

/**
 * The address of an embedded PostgreSQL with the account of the service itself, which it tells nobody: that of
 * `endpoints.json` only reads.
 */
export function asOwner(address, data) {
  const url = new URL(address);
  url.username = 'oms';
  url.password = readFileSync(join(data, 'postgres', 'password'), 'utf8').trim();
  return String(url);
}

function freePort() {
  return new Promise((done, failed) => {
    const server = createServer().on('error', failed);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** Waits until `condition` gives something, for so many seconds at most. */
export async function until(what, seconds, condition) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await condition().catch(() => false);
    if (found) return found;
    if (Date.now() > end) throw new Error(`${what} did not come within ${seconds} s`);
    await new Promise((then) => { setTimeout(then, 100); });
  }
}

/** See the head of this file. */
export class Service {
  constructor(config, args) {
    this.dir = mkdtempSync(join(tmpdir(), 'oms-console-'));
    this.config = join(this.dir, 'oms.toml');
    writeFileSync(this.config, config);
    this.args = args;
  }

  /** `config`: lines of its configuration; `args`: of `oms serve`. */
  static async start(config = '', args = ['--mode', 'legacy']) {
    const service = new Service(config, args);
    service.port = await freePort();
    await service.run();
    return service;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async run() {
    const log = createWriteStream(join(this.dir, 'log'), { flags: 'a' });
    this.child = spawn(BINARY, ['serve', '--config', this.config, '--data-dir', join(this.dir, 'data'), '--port', String(this.port), ...this.args],
      { stdio: ['ignore', 'pipe', 'pipe'], cwd: this.dir });
    this.child.stdout.pipe(log, { end: false });
    this.child.stderr.pipe(log, { end: false });
    this.ended = new Promise((done) => { this.child.once('exit', done); });
    await until('the service', 60, async () => (await fetch(`${this.url}/health/ready`)).ok)
      .catch((error) => { throw new Error(`${error.message}: ${readFileSync(join(this.dir, 'log'), 'utf8').slice(-2000)}`); });
  }

  /** As a power cut would. */
  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  async stop() {
    this.child.kill('SIGTERM');
    const late = setTimeout(() => this.child.kill('SIGKILL'), 30_000);
    await this.ended;
    clearTimeout(late);
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** Asks the API. */
  async api(path, body, { method = body === undefined ? 'GET' : 'POST', token } = {}) {
    const response = await fetch(`${this.url}/api/v1${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** Runs SQL in the service's database, as the service itself does. */
  async sql(statement) {
    const data = join(this.dir, 'data');
    const { postgres } = JSON.parse(readFileSync(join(data, 'endpoints.json'), 'utf8'));
    const { stdout } = await promisify(execFile)(process.env.OMS_PSQL ?? 'psql', [asOwner(postgres, data), '-Atc', statement]);
    return stdout.trim();
  }

  /**
   * Writes with a few writers, each pausing a little (a backfill of a saturated store follows it for ever), until
   * `stop()`, which tells how many were acknowledged and which failed.
   */
  load(writers = 3) {
    let going = true;
    const told = { acknowledged: 0, failed: [] };
    const work = Array.from({ length: writers }, async (_, w) => {
      for (let i = 0; going; i += 1) {
        await this.api(`/streams/load/${this.port}-${w}/events`, { events: [{ type: 'Loaded', data: { i } }] })
          .then(() => { told.acknowledged += 1; }, (error) => { told.failed.push(error.message); });
        await new Promise((then) => { setTimeout(then, 40); });
      }
    });
    return { told, stop: async () => { going = false; await Promise.all(work); return told; } };
  }
}

/** An id and a text that would run if anything took them for markup. */
export const HOSTILE = '<img src=x onerror="window.harmed=1">';

/** A database with one instance that has six versions, and one with a hostile id. */
export async function seed(service) {
  await service.api('/databases', { name: 'films', description: HOSTILE });
  await service.api('/databases/films/classes', {
    id: 'Movie',
    label: HOSTILE,
    properties: [{ name: 'title', type: 'string' }, { name: 'year', type: 'integer' }, { name: 'note', type: 'string' }],
  });
  const movies = '/databases/films/classes/Movie/instances';
  await service.api(movies, { id: HOSTILE, data: { title: '<script>window.harmed=1</script>', year: 1 } });
  await service.api(movies, { id: 'metropolis', data: { title: 'Metropolis', year: 1921 } });
  for (let year = 1922; year < 1927; year += 1) {
    await service.api(`${movies}/metropolis`, { year, note: `draft ${year}` }, { method: 'PATCH' });
  }
  await service.api(`${movies}/metropolis`, { year: 1927, note: null }, { method: 'PATCH' });
  await service.api('/streams/order/2026-1/events', { events: [{ type: 'OrderPlaced', data: { total: 12 } }, { type: 'OrderPaid', data: { total: 12 } }] });
}

/** Every page, by its address; `%` stands for what must be asked first. */
export async function pages(service) {
  const history = await service.api('/streams/instance/films%2FMovie%2Fmetropolis/events');
  const first = history.items[0];
  const hostile = encodeURIComponent(['films', 'Movie', HOSTILE].map(encodeURIComponent).join('/'));
  return ['overview', 'switch', 'switch/dual_write/postgres', 'jobs', 'delivery', 'projections', 'actors', 'audit', 'metrics', 'streams', 'streams/films', 'streams/films/Movie',
    'stream/instance/films%2FMovie%2Fmetropolis?v=3', `stream/instance/${hostile}`, 'stream/order/2026-1', 'log', `log/${first.position}`,
    `log/command/${first.commandid}`, `log/story/${first.correlationid}`, 'feed', 'runbook', 'runbook/s3-is-down'];
}
