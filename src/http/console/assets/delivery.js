// The outbox and its dead letters.

import { html, nothing } from './vendor/lit-html.js';
import { get, post, query, url } from './api.js';
import { ago, clock, count, duration, number } from './format.js';
import { changed, may, missing, poll, state } from './state.js';
import { ask, badge, button, failure, href, table } from './ui.js';

export const title = 'Delivery';

const PAGE = 100;
let outbox = null;
let letters = null;
let problem = null;
let pages = [];
let picked = new Set();
let stop = null;

async function look() {
  if (!may('admin')) return;
  try {
    outbox = await get('/api/v1/admin/outbox');
    // While somebody picks, the list stands still.
    if (!picked.size) letters = await get(query('/api/v1/admin/outbox/dead', { limit: PAGE, cursor: pages.at(-1) }));
    problem = null;
  } catch (error) {
    problem = error;
  }
}

export function enter() {
  pages = [];
  picked = new Set();
  stop = poll(5000, look);
}

export function leave() {
  stop?.();
}

function settle(action, list) {
  const word = { requeue: 'Requeue', discard: 'Discard' }[action];
  let done = 0;
  ask({
    title: `${word} ${count(list.length, 'dead letter')}`,
    label: word,
    many: true,
    kind: action === 'discard' ? 'danger' : 'primary',
    typed: action === 'discard' ? `discard ${list.length}` : undefined,
    body: () => html`<p>${action === 'requeue'
      ? 'They go back into the outbox and are published again. Put right first what the broker refused; else they come back here.'
      : 'They are never published: consumers will lack these events for good. The log keeps them.'}</p>${done ? html`<p role="status">${done} of ${list.length}</p>` : nothing}`,
    act: async (_, stopped) => {
      for (const letter of list.slice(done)) {
        if (stopped()) break;
        // One that somebody else has settled is settled.
        await post(url`/api/v1/admin/outbox/dead/${letter.id}/` + action).catch((e) => { if (e.status !== 404) throw e; });
        done += 1;
        picked.delete(letter.id);
        changed();
      }
      picked = new Set();
      stop?.now?.();
    },
  });
}

function groups() {
  const by = new Map();
  for (const l of letters.items) {
    const key = `${l.topic}\n${l.last_error}`;
    by.set(key, [...(by.get(key) ?? []), l]);
  }
  return [...by.values()].sort((a, b) => b.length - a.length);
}

function dead() {
  if (!letters) return nothing;
  const toggle = (l) => (e) => { if (e.target.checked) picked.add(l.id); else picked.delete(l.id); changed(); };
  const all = letters.items.filter((l) => picked.has(l.id));
  return html`<section aria-labelledby="dead"><h2 id="dead">Dead letters</h2>
    <p>Events that the broker refused again and again. <a href=${href('runbook', 'dead-letters')}>Runbook: Dead letters</a></p>
    ${letters.items.length ? html`<ul class="needs">${groups().map((g) => html`<li class="warn"><div class="what"><strong>${count(g.length, 'letter')} to ${g[0].topic}</strong><br>${g[0].last_error}</div>
      <div class="press">${button('Requeue these…', 'admin', () => settle('requeue', g))}${button('Discard these…', 'admin', () => settle('discard', g), { kind: 'danger' })}</div></li>`)}</ul>` : nothing}
    ${table('Every dead letter on this page', ['pick', 'stream', 'event', 'topic', { text: 'tries', num: true }, 'given up', 'what the broker said'], letters.items.map((l) => html`<tr>
      <td><input type="checkbox" aria-label=${`pick ${l.stream}, version ${l.version}`} .checked=${picked.has(l.id)} @change=${toggle(l)}></td>
      <td><a href=${streamHref(l.stream)}>${l.stream}</a> <span class="muted">v${l.version}</span></td><td><a href=${href('log', ...l.position.split('/'))}>${l.position}</a></td>
      <td>${l.topic}</td><td class="num">${l.attempts}</td><td title=${clock(l.died)}>${ago(l.died)}</td><td>${l.last_error}</td></tr>`), 'there are none')}
    <p class="row">${button(`Requeue ${all.length || 'picked'}…`, 'admin', () => settle('requeue', all), { off: all.length ? '' : 'pick some', quiet: true })}
      ${button(`Discard ${all.length || 'picked'}…`, 'admin', () => settle('discard', all), { kind: 'danger', off: all.length ? '' : 'pick some', quiet: true })}
      ${pages.length ? html`<button type="button" @click=${() => { pages.pop(); picked.clear(); stop.now(); }}>Before</button>` : nothing}
      ${letters.next_cursor ? html`<button type="button" @click=${() => { pages.push(letters.next_cursor); picked.clear(); stop.now(); }}>More</button>` : nothing}</p></section>`;
}

/** The page of a stream whose name is `type/id`. */
export function streamHref(subject) {
  const at = subject.indexOf('/');
  return href('stream', subject.slice(0, at), subject.slice(at + 1));
}

export function view() {
  if (!may('admin')) return html`<p class="note">${missing('admin')}</p>${button('Requeue', 'admin', () => {})} ${button('Discard', 'admin', () => {})}`;
  if (!outbox) return failure(problem) || html`<p>Asking…</p>`;
  const lag = outbox.partitions.reduce((n, p) => n + (p.lag ?? 0), 0);
  return html`${failure(problem)}<section aria-labelledby="outbox"><h2 id="outbox">From the log to Kafka</h2>
    <div class="tiles"><div class="tile"><span>rows waiting</span><b>${number(outbox.depth)}</b></div><div class="tile"><span>oldest</span><b>${duration(outbox.oldest_seconds)}</b></div>
      <div class="tile"><span>commits not in the outbox</span><b>${number(lag)}</b></div><div class="tile ${outbox.dead_letters ? 'warn' : ''}"><span>dead letters</span><b>${number(outbox.dead_letters)}</b></div></div>
    ${(outbox.halted ?? []).map((h) => html`<p class="note bad"><strong>${h.what} is halted${h.partition === undefined || h.partition === null ? '' : ` in partition ${h.partition}`}</strong> since ${clock(h.since)}: ${h.reason}</p>`)}
    <details><summary>${count(outbox.partitions.length, 'partition')}</summary>${table('Partitions', [{ text: '#', num: true }, { text: 'taken in to', num: true }, { text: 'delivered to', num: true }, { text: 'lag', num: true }, 'published by', 'lease until'],
    outbox.partitions.map((p) => html`<tr><td class="num">${p.partition}</td><td class="num">${number(p.watermark)}</td><td class="num">${number(p.delivered)}</td><td class="num">${number(p.lag)}</td>
      <td>${p.lease_owner ? html`<code>${p.lease_owner}</code>${p.lease_owner === state.about?.node ? badge('this node', 'good') : nothing}` : 'nobody'}</td><td>${clock(p.lease_until)}</td></tr>`))}</details></section>${dead()}`;
}
