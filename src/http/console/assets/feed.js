// What is committed, as it comes.

import { html } from './vendor/lit-html.js';
import { Problem, live, query } from './api.js';
import { streamHref } from './delivery.js';
import { clock, number } from './format.js';
import { changed, may, missing, state } from './state.js';
import { failure, href, table } from './ui.js';

export const title = 'Feed';

const KEPT = 300;
const filter = { types: '', text: '' };
let rows = [];
let waiting = [];
let cursor = '';
let came = 0;
let problem = null;
let paused = false;
let abort = null;

function take(event) {
  came += 1;
  const list = paused ? waiting : rows;
  list.unshift(event);
  if (list.length > KEPT) list.length = KEPT;
}

async function follow() {
  abort?.abort();
  abort = new AbortController();
  const { signal } = abort;
  let pause = 500;
  while (!signal.aborted) {
    try {
      const path = query('/api/v1/events', { after: cursor || 'latest', back: cursor ? undefined : 20, types: filter.types });
      for await (const message of live(path, '', signal)) {
        const data = message.data ? JSON.parse(message.data) : null;
        // How a stream ends that cannot go on: a problem, which stands nowhere in the log.
        if (data && !message.id) throw new Problem(data.status, data);
        cursor = message.id;
        pause = 500;
        problem = null;
        if (data) take(data);
        changed();
      }
    } catch (error) {
      problem = error;
      changed();
      // A wrong filter stays wrong.
      if (error.status >= 400 && error.status < 500 && error.status !== 429) return;
    }
    if (signal.aborted) return;
    await new Promise((then) => { setTimeout(then, pause); });
    pause = Math.min(pause * 2, 10000);
  }
}

export function enter(_, search) {
  if (state.me && !may('read')) return;
  filter.types = search.get('types') ?? '';
  filter.text = search.get('text') ?? '';
  cursor = search.get('after') ?? '';
  [rows, waiting, came, problem, paused] = [[], [], 0, null, false];
  follow();
}

export function leave() {
  abort?.abort();
}

// A stream for a tab that nobody sees costs the service for nothing.
document.addEventListener('visibilitychange', () => {
  if (!abort) return;
  if (document.hidden) abort.abort();
  else if (location.hash.startsWith('#/feed')) follow();
});

function apply(event) {
  event.preventDefault();
  const f = new FormData(event.target);
  const given = Object.fromEntries(['types', 'text'].map((n) => [n, f.get(n).trim()]).filter(([, v]) => v));
  const to = `${href('feed')}${Object.keys(given).length ? `?${new URLSearchParams(given)}` : ''}`;
  if (location.hash === to) enter(null, new URLSearchParams(given));
  else location.hash = to;
}

function toggle() {
  paused = !paused;
  if (!paused) {
    rows = waiting.concat(rows).slice(0, KEPT);
    waiting = [];
  } else {
    // The place is kept in the address: Back, and whoever is sent it, begin here.
    history.replaceState(null, '', `${href('feed')}?${new URLSearchParams({ ...(filter.types ? { types: filter.types } : {}), ...(filter.text ? { text: filter.text } : {}), ...(cursor ? { after: cursor } : {}) })}`);
  }
  changed();
}

export function view() {
  if (state.me && !may('read')) return html`<p class="note">${missing('read')}</p>`;
  const text = filter.text.toLowerCase();
  const shown = rows.filter((e) => !text || `${e.subject} ${e.actor} ${e.type} ${e.correlationid}`.toLowerCase().includes(text));
  return html`<form class="row" @submit=${apply}><label>Types, by commas <input name="types" type="text" placeholder="InstanceCreated" .value=${filter.types}></label>
      <label>Stream, actor or correlation has <input name="text" type="text" .value=${filter.text}></label><button type="submit">Filter</button>
      <button type="button" class="primary" aria-pressed=${paused} @click=${toggle}>${paused ? `Go on${waiting.length ? ` (${waiting.length} wait)` : ''}` : 'Pause'}</button></form>
    ${failure(problem)}
    <p class="muted">${number(came)} events came since this page was opened; the last ${KEPT} are kept.</p>
    ${table('Live feed', ['time', 'event', 'stream', 'by', 'position'], shown.map((e) => html`<tr><td>${clock(e.time, true)}</td><td>${e.type}</td>
      <td><a href=${`${streamHref(e.subject)}?v=${e.streamversion}`}>${e.subject}</a> <span class="muted">v${e.streamversion}</span></td><td>${e.actor}</td>
      <td><a href=${href('log', ...e.position.split('/'))}>${e.position}</a></td></tr>`), text && rows.length ? 'nothing of what came is like that' : 'nothing yet: what is committed appears here')}
`;
}
