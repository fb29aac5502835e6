// A service of the run: one of the console's tests, and what an operator does to it.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { asOwner, Service, until } from '../console/service.mjs';
import { freePort } from './servers.mjs';

const run = promisify(execFile);

/** Processes that run, also those that are only just started. */
export const running = new Set();

/** See the head of this file. */
export class Node extends Service {
  /** Starts one that Prometheus knows as `job`. */
  static async begin(job, config, args = ['--mode', 'legacy']) {
    const node = await Node.start(`[chaos]\nenabled = true\n${config}`, args);
    node.job = job;
    return node;
  }

  static async start(config, args) {
    const node = new Node(config, args);
    node.port = await freePort();
    await node.run().catch(async (error) => {
      // One that does not come is not left behind.
      await node.stop();
      throw error;
    });
    return node;
  }

  run() {
    const ready = super.run();
    const { child } = this;
    running.add(child);
    child.once('exit', () => running.delete(child));
    return ready;
  }

  get instance() {
    return `127.0.0.1:${this.port}`;
  }

  /** Where its parts are; PostgreSQL as the service itself uses it, and not with the role that only reads. */
  get endpoints() {
    const data = join(this.dir, 'data');
    const told = JSON.parse(readFileSync(join(data, 'endpoints.json'), 'utf8'));
    return told.postgres ? { ...told, postgres: asOwner(told.postgres, data) } : told;
  }

  /** Runs SQL in its database, also where that is not embedded. */
  async sql(statement) {
    const { stdout } = await run(process.env.OMS_PSQL ?? 'psql', [this.database ?? this.endpoints.postgres, '-v', 'ON_ERROR_STOP=1', '-Atc', statement]);
    return stdout.trim();
  }

  /** The end of its log. */
  log() {
    return readFileSync(join(this.dir, 'log'), 'utf8').slice(-3000);
  }

  /** Runs a command of the program against it. */
  async oms(...args) {
    return run(process.env.OMS_BINARY, args, { env: { ...process.env, OMS_URL: this.url }, cwd: this.dir, timeout: 180_000 })
      .then(({ stdout }) => stdout, (error) => { throw new Error(`oms ${args.join(' ')}: ${error.code}: ${error.stdout}${error.stderr}`); });
  }

  /**
   * Orders a switch, again while its gates are shut: on a machine that is busy the proof that a put is atomic, or the
   * copy, comes late.
   */
  async mode(...args) {
    let last;
    await until('the switch', 180, async () => {
      await this.oms('mode', ...args, '--reason', 'the watching').catch((error) => { last = error; throw error; });
      return true;
    }).catch((error) => { throw new Error(`${error.message}: ${last?.message}`); });
  }

  /** Writes to a stream: how it was answered; 0 where it was not. */
  async write(stream, events = 1) {
    const body = JSON.stringify({ events: Array.from({ length: events }, (_, i) => ({ type: 'Watched', data: { i, text: 'x'.repeat(200) } })) });
    const answer = await fetch(`${this.url}/api/v1/streams/watch/${stream}/events`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
      .catch(() => undefined);
    await answer?.arrayBuffer().catch(() => {});
    return answer?.status ?? 0;
  }

  async get(path) {
    const answer = await fetch(`${this.url}${path}`).catch(() => undefined);
    await answer?.arrayBuffer().catch(() => {});
    return answer?.status ?? 0;
  }

  /** The value of a series of its metrics: `figure('oms_dead_letters')`. */
  async figure(series) {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const line = text.split('\n').find((each) => each.startsWith(`${series} `));
    return line === undefined ? undefined : Number(line.split(' ')[1]);
  }

  killActor(path, how) {
    return this.api('/admin/actors/kill', { path, how });
  }

  failpoint(name, action, times = 1, delay_ms = 0) {
    return this.api('/admin/actors/failpoints', { name, action, times, delay_ms });
  }

  /** Writes all the while with so many writers, `pause` ms apart, until `stop()`; failures are counted, not told. */
  steady(writers, pause) {
    let going = true;
    const counts = {};
    const work = Array.from({ length: writers }, async (_, w) => {
      for (let i = 0; going; i += 1) {
        const status = await this.write(`${this.job}-${w}-${i % 20}`);
        counts[status] = (counts[status] ?? 0) + 1;
        await new Promise((then) => { setTimeout(then, status === 201 ? pause : Math.max(pause, 50)); });
      }
    });
    return { counts, stop: async () => { going = false; await Promise.all(work); return counts; } };
  }
}
