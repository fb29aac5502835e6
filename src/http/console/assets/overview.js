// One look: is it well, who leads, what is behind, what is wrong, what to press.

import { html, nothing } from './vendor/lit-html.js';
import { attention } from './attention.js';
import { chart } from './charts.js';
import { ago, bytes, clock, duration, number, store } from './format.js';
import { behind, leaders, partitions, road, whoLeads } from './road.js';
import { changed, latest, may, state } from './state.js';
import { badge, href } from './ui.js';

export const title = 'Overview';

const WORDS = {
  ok: ['good', 'Well'],
  degraded: ['warn', 'Degraded'],
  unavailable: ['bad', 'Unavailable'],
};

/** The state in a word and a colour. */
export function verdict() {
  if (state.lost) return ['bad', state.health ? 'Connection lost' : 'Not reached'];
  if (!state.health) return ['', 'Asking…'];
  const [kind, word] = WORDS[state.health.status] ?? ['warn', state.health.status];
  return kind === 'good' && attention().length ? ['warn', 'Well, but look'] : [kind, word];
}

function reason(h) {
  if (h.status === 'unavailable') return 'Writes are refused.';
  if (h.status === 'degraded') return 'It serves; something lags behind or does not go on.';
  return 'It serves reads and writes.';
}

/** How much of something waits, where that is known. */
const waits = (figure, unit) => {
  const value = latest(figure);
  return value === null ? 'not known' : value ? `${number(value)} ${unit}` : 'nothing';
};

function banner() {
  const [kind, word] = verdict();
  const h = state.health;
  const m = state.migration;
  const last = state.history.find((s) => s.state === 'done' && s.edges.length);
  return html`<section class="banner ${kind}" aria-label="State">
    <h2>${word}</h2>
    ${state.lost ? html`<p><strong>${state.lost.message}.</strong> ${state.heard ? html`What follows is as of ${clock(state.heard)}, ${ago(state.heard)}. It is asked again every two seconds.` : 'It is asked again every two seconds.'}</p>` : nothing}
    ${state.partial && !state.lost ? html`<p><strong>Not everything could be asked:</strong> ${state.partial.message}. What it would tell is older than the rest.</p>` : nothing}
    ${h ? html`<dl class="facts">
      <div><dt>Service</dt><dd>${state.lost ? 'unknown' : reason(h)}</dd></div>
      <div><dt>Who leads</dt><dd><strong>${whoLeads()}</strong>${m ? html` · ${m.stage}, epoch ${m.epoch}` : nothing}</dd></div>
      ${m ? html`<div><dt>What is behind</dt><dd>${behind()}; delivery ${waits('outbox_depth', 'rows')}; read model ${waits('projection_lag', 'commits')}</dd></div>
      <div><dt>Last switch</dt><dd>${last ? html`to ${last.goal} ${ago(last.ended)} by ${last.by}: ${last.reason}` : state.historyProblem ? `not known: ${state.historyProblem.message}` : 'none is recorded'}</dd></div>` : nothing}
    </dl>` : nothing}
  </section>`;
}

function needs() {
  if (!state.health) return nothing;
  const items = attention();
  return html`<section aria-labelledby="needs"><h2 id="needs">Needs attention${items.length ? html` <span class="count">${items.length}</span>` : nothing}</h2>
    ${items.length ? html`<ul class="needs">${items.map((i) => html`<li class=${i.level}>
      <div class="what"><strong>${i.what}</strong><br>${i.means}</div>
      <div class="press">${i.to ? html`<a class="button" href=${i.to}>${i.press}</a>` : html`<span>${i.press}</span>`}
      <a href=${href('runbook', i.section)}>Runbook: ${i.runbook}</a></div></li>`)}</ul>`
    : html`<p class="note good">Nothing needs anybody${may('admin') ? '' : ', as far as may be seen without the role “admin”'}.</p>`}
  </section>`;
}

const PURPOSE = { s3: 'the log’s bucket', postgres: 'outbox, read model', kafka: 'transport' };

function dependencies(h) {
  return html`<section aria-labelledby="deps"><h2 id="deps">Dependencies</h2><div class="cards">${
    Object.entries(h.dependencies).map(([name, d]) => html`<div class="card ${d.state === 'down' ? 'bad' : ''}">
      <h3>${store(name)} ${badge(d.state, { up: 'good', down: 'bad' }[d.state])}${leaders().has(name) ? badge('leads', name) : nothing}</h3>
      <p>${PURPOSE[name]} · ${d.latency_ms ? duration(d.latency_ms / 1e3) : '–'} a call<br>${d.state} for ${duration((Date.now() - Date.parse(d.since)) / 1e3)}</p></div>`)}
    ${h.disk ? html`<div class="card ${h.disk.state === 'low' ? 'bad' : ''}"><h3>Disk ${badge(h.disk.state, h.disk.state === 'ok' ? 'good' : 'bad')}</h3>
      <p>${bytes(h.disk.free_bytes)} free<br>commands are refused below ${bytes(h.disk.reserve_bytes)}</p></div>` : nothing}
  </div></section>`;
}

const tile = (label, value, to, kind = '') => html`<a class="tile ${kind}" href=${to}><span>${label}</span><b>${value}</b></a>`;

function figures() {
  const dead = latest('dead_letters');
  return html`<section aria-labelledby="now"><h2 id="now">Now</h2><div class="tiles">
    ${tile('writes a second', number(latest('writes')), href('metrics'))}
    ${tile('write, p99', duration(latest('write_p99')), href('metrics'))}
    ${tile('5xx a second', number(latest('server_errors')), href('metrics'), latest('server_errors') > 0 ? 'bad' : '')}
    ${tile('outbox rows', number(latest('outbox_depth')), href('delivery'))}
    ${tile('dead letters', number(dead), href('delivery'), dead > 0 ? 'warn' : '')}
    ${tile('read model lag', number(latest('projection_lag')), href('projections'))}
    ${tile('live aggregates', number(latest('live_aggregates')), href('actors'))}
    ${tile('actor restarts', number(latest('restarts')), href('actors'))}
  </div><div class="charts">
    ${chart('Events written a second', 'per_second', ['writes', 'reads'], ['writes', 'reads'])}
    ${chart('Time of a write', 'seconds', ['write_p50', 'write_p99'], ['half within', '99 % within'])}
    ${chart('Behind', 'count', ['outbox_depth', 'projection_lag', 'unmirrored'], ['outbox rows', 'read model', 'copy'])}
    ${chart('Calls to dependencies, 99 % within', 'seconds', ['s3_p99', 'postgres_p99', 'kafka_p99'], ['S3', 'PostgreSQL', 'Kafka'])}
  </div></section>`;
}

export function view() {
  return html`${banner()}${needs()}
    ${state.migration ? html`<section aria-labelledby="road"><h2 id="road">The road</h2>${road()}${partitions(changed)}</section>` : nothing}
    ${state.health ? dependencies(state.health) : nothing}
    ${may('admin') ? figures() : state.health ? html`<p class="note">The road, the charts and everything that can be pressed need the role “admin”${state.me ? `; ${state.me.name} has ${state.me.roles.join(', ') || 'none'}` : ''}.</p>` : nothing}`;
}
