// The servers of a run beside the services: Prometheus, and versitygw as S3. Each in a folder of its own below the
// run's, on loopback, ended by its id.
import { spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { until } from '../console/service.mjs';

export function freePort() {
  return new Promise((done, failed) => {
    const server = createServer().on('error', failed);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

function begin(program, args, { log, env, cwd }) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd, env: { ...process.env, ...env } });
  const out = createWriteStream(log, { flags: 'a' });
  child.stdout.pipe(out, { end: false });
  child.stderr.pipe(out, { end: false });
  child.failed = new Promise((_, failed) => { child.once('error', failed); });
  child.failed.catch(() => {});
  const ended = new Promise((done) => { child.once('exit', done); });
  return {
    failed: child.failed,
    async stop() {
      child.kill('SIGTERM');
      const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await Promise.race([ended, child.failed.catch(() => {})]);
      clearTimeout(late);
    },
  };
}

const answers = (url) => async () => (await fetch(url)).status < 500;

/** versitygw over a folder: `folder` has a folder for each bucket, with the objects as files. */
export async function s3(dir) {
  const folder = join(dir, 's3');
  mkdirSync(folder, { recursive: true });
  const [port, secret] = [await freePort(), `secret-${process.pid}-${Date.now()}`];
  const server = begin(process.env.OMS_VERSITYGW, ['--port', `127.0.0.1:${port}`, 'posix', folder],
    { log: join(dir, 's3.log'), cwd: dir, env: { ROOT_ACCESS_KEY: 'omswatch', ROOT_SECRET_KEY: secret } });
  await Promise.race([server.failed, until('versitygw', 30, answers(`http://127.0.0.1:${port}/`))]);
  return { port, folder, access: 'omswatch', secret, stop: server.stop };
}

/** How much quicker than in production a rule fires that must hold for a while: a minute is a second. */
export const HASTE = 60;

const UNITS = { s: 1, m: 60, h: 3600 };

/** The rules with `for:` shortened; the windows of the expressions stay as they are. */
export function hastened(rules) {
  return rules.replace(/^(\s+for: )(\d+)([smh])$/gm, (_, head, number, unit) => `${head}${Math.max(1, Math.round((number * UNITS[unit]) / HASTE))}s`);
}

/** Prometheus with rules, asking every second what `scrape()` was told. */
export class Prometheus {
  static async start(dir, rules) {
    const prometheus = new Prometheus();
    prometheus.targets = join(dir, 'targets.json');
    prometheus.scrape([]);
    writeFileSync(join(dir, 'alerts.yml'), hastened(rules));
    // The job of a target is its label: as in a configuration with a job for each.
    writeFileSync(join(dir, 'prometheus.yml'), `
global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }
rule_files: [alerts.yml]
scrape_configs:
  - job_name: oms
    file_sd_configs: [{ files: [targets.json], refresh_interval: 1s }]
`);
    prometheus.port = await freePort();
    prometheus.server = begin(process.env.OMS_PROMETHEUS ?? 'prometheus',
      [`--config.file=${join(dir, 'prometheus.yml')}`, `--storage.tsdb.path=${join(dir, 'prometheus')}`, `--web.listen-address=127.0.0.1:${prometheus.port}`],
      { log: join(dir, 'prometheus.log'), cwd: dir });
    await Promise.race([prometheus.server.failed, until('Prometheus', 30, answers(`http://127.0.0.1:${prometheus.port}/-/ready`))])
      .catch((error) => { throw new Error(`${error.message}: ${readFileSync(join(dir, 'prometheus.log'), 'utf8').slice(-2000)}`); });
    return prometheus;
  }

  /** Asks these from now on: `{ job, instance: 'host:port' }`. */
  scrape(targets) {
    writeFileSync(this.targets, JSON.stringify(targets.map(({ job, instance }) => ({ targets: [instance], labels: { job } }))));
  }

  async ask(path, parameters = {}) {
    const form = new URLSearchParams();
    for (const [name, value] of Object.entries(parameters)) [value].flat().forEach((each) => form.append(name, String(each)));
    const response = await fetch(`http://127.0.0.1:${this.port}/api/v1/${path}?${form}`);
    const answer = await response.json();
    if (answer.status !== 'success') throw new Error(answer.error);
    return answer.data;
  }

  async firing() {
    const { alerts } = await this.ask('alerts');
    return alerts.filter((alert) => alert.state === 'firing');
  }

  stop() {
    return this.server.stop();
  }
}
