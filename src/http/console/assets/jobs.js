// The jobs of the migration: how far each is, what came of it, and the orders to start, pause, resume and cancel.

import { html, nothing } from './vendor/lit-html.js';
import { get, post, url } from './api.js';
import { ago, clock, count, duration, number, shell } from './format.js';
import { changed, may, missing, poll, state } from './state.js';
import { ask, badge, button, copyable, failure, progress } from './ui.js';

export const title = 'Jobs';

const JOBS = [
  { kind: 'backfill', name: 'Backfill', says: 'Copies history into the place that lacks it; with a source, imports another program’s events.' },
  { kind: 'verify', name: 'Verify', says: 'Reads both places of the log and compares bytes, chain and streams.' },
  { kind: 'repair', name: 'Repair', says: 'Mends what the last verification found, in the copy.' },
  { kind: 'archive', name: 'Archive', says: 'In s3_only: exports PostgreSQL’s retired events to Parquet in the bucket, then empties their tables.' },
];
const OPTIONS = {
  backfill: [['source', 'Source', 'source'], ['rate', 'Events a second at most', 'number'], ['dry_run', 'Only count', 'check'], ['follow', 'Of a source: go on until stopped', 'check'], ['restart', 'Of a source: read everything again', 'check']],
  verify: [['incremental', 'Only what is new (opens no gate)', 'check'], ['rate', 'Events a second at most', 'number']],
  repair: [['dry_run', 'Only tell what would be done', 'check'], ['fresh', 'Verify anew first', 'check']],
  archive: [['dry_run', 'Only look whether it may be done', 'check'], ['keep_rows', 'Export, and leave the tables as they are', 'check']],
};
const COLOURS = { running: 'accent', pausing: 'warn', paused: 'warn', done: 'good', failed: 'bad', cancelled: 'warn' };
const over = (job) => ['done', 'failed', 'cancelled'].includes(job.state);

const known = new Map();
const problems = new Map();
let stop = null;
let quiet = 0;

async function look() {
  // Those that run are asked each time, the others now and then.
  const all = Date.now() >= quiet;
  if (all) quiet = Date.now() + 15000;
  const kinds = JOBS.map((j) => j.kind).filter((kind) => all || (known.get(kind) && !over(known.get(kind))));
  await Promise.all(kinds.map(async (kind) => {
    try {
      known.set(kind, await get(url`/api/v1/admin/migration/${kind}`));
      problems.delete(kind);
    } catch (error) {
      if (error.status === 404) known.set(kind, null);
      else problems.set(kind, error);
    }
  }));
}

export function enter() {
  quiet = 0;
  stop = may('admin') || !state.me ? poll(2000, look) : null;
}

export function leave() {
  stop?.();
}

async function order(kind, action, job) {
  problems.delete(kind);
  try {
    known.set(kind, await post(url`/api/v1/admin/migration/${kind}`, { action, job: job.id }));
  } catch (error) {
    problems.set(kind, error);
  }
  changed();
}

function cancel(job, j) {
  ask({
    title: `Cancel: ${job.name.toLowerCase()}`,
    label: 'Cancel the job',
    kind: 'danger',
    body: html`<p>It ends for good; what it has done stays. To go on later, pause it instead.</p>`,
    act: async () => { known.set(job.kind, await post(url`/api/v1/admin/migration/${job.kind}`, { action: 'cancel', job: j.id })); },
  });
}

function command(kind, f) {
  const flags = OPTIONS[kind].flatMap(([name, , type]) => {
    if (!f[name]) return [];
    const flag = `--${name.replaceAll('_', '-')}`;
    return type === 'check' ? [flag] : [flag, shell(String(f[name]))];
  });
  return ['oms', kind, ...flags].join(' ');
}

function start(job) {
  ask({
    title: `Start: ${job.name.toLowerCase()}`,
    label: 'Start',
    kind: job.kind === 'archive' || job.kind === 'repair' ? 'danger' : 'primary',
    typed: job.kind === 'archive' || job.kind === 'repair' ? job.kind : undefined,
    body: (f) => html`<p>${job.says}</p><p>The same as a command:</p>${copyable(command(job.kind, f))}`,
    extra: (f) => OPTIONS[job.kind].map(([name, label, type]) => {
      const set = (value) => { f[name] = value; changed(); };
      if (type === 'check') return html`<label class="check"><input type="checkbox" .checked=${!!f[name]} @change=${(e) => set(e.target.checked)}> ${label}</label>`;
      if (type === 'number') return html`<label>${label} <input type="number" min="1" placeholder="no limit" @input=${(e) => set(e.target.value ? Number(e.target.value) : undefined)}></label>`;
      const sources = state.about?.sources ?? [];
      return sources.length ? html`<label>${label} <select @change=${(e) => set(e.target.value || undefined)}><option value="">this service’s own PostgreSQL</option>${sources.map((s) => html`<option value=${s}>${s}</option>`)}</select></label>` : nothing;
    }),
    act: async (f) => {
      const body = Object.fromEntries(OPTIONS[job.kind].map(([name]) => [name, f[name]]).filter(([, v]) => v));
      known.set(job.kind, await post(url`/api/v1/admin/migration/${job.kind}`, body));
    },
  });
}

function report(job) {
  const r = job.report;
  if (!r) return nothing;
  const scalars = Object.entries(r).filter(([, v]) => v === null || typeof v !== 'object');
  const lists = Object.entries(r).filter(([, v]) => Array.isArray(v));
  const clean = job.kind === 'verify' ? (r.clean ? badge('both places hold the same', 'good') : badge(`${count(r.divergences?.length ?? 0, 'divergence')}`, 'bad')) : nothing;
  return html`<p>${clean} ${scalars.filter(([k]) => k !== 'clean').map(([k, v], i) => html`${i ? ' · ' : ''}${k.replaceAll('_', ' ')} <b>${typeof v === 'number' ? number(v) : String(v)}</b>`)}</p>
    ${r.divergences?.length ? html`<p class="note bad">They differ. <a href="#/runbook/the-stores-differ">Runbook: The stores differ</a>; then repair, and verify again.</p>` : nothing}
    ${lists.some(([, v]) => v.length) ? html`<details><summary>The whole report</summary><pre tabindex="0">${JSON.stringify(r, null, 1).slice(0, 20000)}</pre></details>` : nothing}`;
}

function card(job) {
  const j = known.get(job.kind);
  const p = j?.progress;
  return html`<section class="card wide" aria-labelledby="job-${job.kind}"><h2 id="job-${job.kind}">${job.name} ${j ? badge(j.state, COLOURS[j.state]) : nothing}</h2>
    <p>${job.says}</p>
    ${j ? html`<p>Begun ${ago(j.begun)} by ${j.by}${j.ended ? html`, over <span title=${clock(j.ended)}>${ago(j.ended)}</span>` : nothing}${Object.keys(j.parameters ?? {}).length ? html` · <code>${JSON.stringify(j.parameters)}</code>` : nothing}</p>
      ${over(j) ? nothing : html`${progress(p.done, p.total, job.name)}
      <p><b>${number(p.done)}</b> of ${number(p.total)} ${p.unit}${p.total ? ` (${Math.floor((100 * p.done) / p.total)} %)` : ''} · ${number(p.rate)} events a second · ${p.eta_seconds === null || p.eta_seconds === undefined ? 'the end is not known yet' : `about ${duration(p.eta_seconds)} left`} · ${p.phase}</p>`}
      ${p.waiting ? html`<p class="note warn">It waits: ${p.waiting}</p>` : nothing}
      ${j.error ? html`<p class="note bad">${j.error}</p>` : nothing}${report(j)}` : html`<p class="muted">${j === null ? 'None was ever started.' : may('admin') ? 'Asking…' : ''}</p>`}
    ${failure(problems.get(job.kind))}
    <p class="row">${j && !over(j) ? html`${j.state === 'running' ? button('Pause', 'admin', () => order(job.kind, 'pause', j)) : nothing}${
      j.state === 'paused' ? button('Resume', 'admin', () => order(job.kind, 'resume', j), { kind: 'primary' }) : nothing}${
      button('Cancel…', 'admin', () => cancel(job, j), { kind: 'danger' })}` : button(`Start ${job.kind}…`, 'admin', () => start(job))}</p>
  </section>`;
}

export function view() {
  return html`${may('admin') ? nothing : html`<p class="note">${missing('admin')}</p>`}${JOBS.map(card)}
    <p class="muted">${state.about?.sources.length ? `Configured sources: ${state.about.sources.join(', ')}.` : 'No other event store is configured as a source (migration.sources).'}</p>`;
}
