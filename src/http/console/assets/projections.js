// The read model: how far it is, what it could not take in, and building it anew.

import { html, nothing } from './vendor/lit-html.js';
import { get, post, url } from './api.js';
import { count, duration, number } from './format.js';
import { may, missing, poll } from './state.js';
import { ask, badge, button, failure, href, progress, table } from './ui.js';

export const title = 'Projections';

let items = null;
let problem = null;
let stop = null;

async function look() {
  if (!may('admin')) return;
  try {
    items = (await get('/api/v1/admin/projections')).items;
    problem = null;
  } catch (error) {
    problem = error;
  }
}

export function enter() {
  stop = poll(3000, look);
}

export function leave() {
  stop?.();
}

function rebuild(p) {
  ask({
    title: `Rebuild ${p.name}`,
    label: 'Rebuild',
    typed: p.name,
    body: html`<p>It is built anew from the log beside the live one (generation ${p.generation}), which goes on answering; then they are swapped. Nothing is lost if it is interrupted.</p>`,
    act: async () => { await post(url`/api/v1/admin/projections/${p.name}/rebuild`); stop?.now(); },
  });
}

function one(p) {
  const r = p.rebuild;
  return html`<section class="card wide" aria-labelledby="p-${p.name}"><h2 id="p-${p.name}">${p.name} ${badge(p.state, p.state === 'live' ? 'good' : 'accent')}</h2>
    <div class="tiles"><div class="tile"><span>commits behind</span><b>${number(p.lag_commits)}</b></div><div class="tile ${p.parked_events ? 'warn' : ''}"><span>events parked</span><b>${number(p.parked_events)}</b></div><div class="tile"><span>generation</span><b>${p.generation}</b></div></div>
    ${p.parked_events ? html`<p class="note warn">Queries lack what is parked. <a href=${href('runbook', 'the-read-model')}>Runbook: The read model</a></p>` : nothing}
    ${r ? html`${progress(r.done, r.total, `rebuild of ${p.name}`)}<p><b>${number(r.done)}</b> of ${number(r.total)} · ${number(r.rate)} a second · ${duration(r.eta_seconds)} left</p>` : nothing}
    <details><summary>${count(p.partitions.length, 'partition')}</summary>${table('Partitions', [{ text: '#', num: true }, { text: 'taken in to', num: true }, { text: 'behind', num: true }],
    p.partitions.map((x) => html`<tr><td class="num">${x.partition}</td><td class="num">${number(x.next_offset)}</td><td class="num">${number(x.lag_commits)}</td></tr>`))}</details>
    <p class="row">${button('Rebuild…', 'admin', () => rebuild(p), { off: r ? 'it is being rebuilt' : '' })}</p></section>`;
}

export function view() {
  if (!may('admin')) return html`<p class="note">${missing('admin')}</p>${button('Rebuild…', 'admin', () => {})}`;
  return html`${failure(problem)}${items === null ? html`<p>Asking…</p>` : items.length ? items.map(one) : html`<p>This process keeps no projection: another one has the role.</p>`}`;
}
