// One stream: its history as a timeline, any moment of it, and what differs between two versions.

import { html, nothing } from './vendor/lit-html.js';
import { get, query, url } from './api.js';
import { diff } from './diff.js';
import { ago, clock, count } from './format.js';
import { changed, may, missing, state } from './state.js';
import { badge, button, copyable, failure, href, table } from './ui.js';

export const title = 'Stream';

const PAGE = 50;
let name = { type: '', id: '' };
let total = 0;
let events = [];
let older = null;
let version = 0;
let against = 0;
const seen = new Map();
let asked = 0;
let at = 0;
let problem = null;
let timer = 0;
let mask = false;

/** Parts of an id as the API takes them: without the encoding that joins them. */
function parts() {
  return name.id.split('/').map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
}

const path = () => url`/api/v1/streams/${name.type}/${parts().join('/')}/events`;

async function older_page() {
  // Whoever asks again, or for another stream, has no use for this answer.
  asked += 1;
  const mine = asked;
  const page = await get(query(path(), { limit: PAGE, direction: 'backward', from_version: older ?? undefined }));
  if (mine !== asked) return;
  at = Date.now();
  // What was written meanwhile is on the next visit.
  total = Math.max(total, page.total);
  for (const e of page.items) seen.set(e.streamversion, e);
  events = events.concat(page.items);
  older = page.next_cursor ? Number(page.next_cursor) : null;
}

async function need(v) {
  if (v < 1 || v > total || seen.has(v)) return;
  const page = await get(query(path(), { limit: 1, from_version: v }));
  if (seen.size > 2000) seen.clear();
  for (const e of page.items) seen.set(e.streamversion, e);
}

async function attempt(work) {
  try {
    await work();
    problem = null;
  } catch (error) {
    problem = error;
  }
  changed();
}

export async function enter(given, search) {
  const [type = '', id = ''] = given;
  if (state.me && !may('read')) return;
  if (type !== name.type || id !== name.id || !search.has('v') || Number(search.get('v')) > total) {
    name = { type, id };
    [total, events, older] = [0, [], null];
    seen.clear();
    await attempt(older_page);
  }
  version = Math.min(Number(search.get('v')) || total, total);
  against = Math.min(Number(search.get('with')) || Math.max(version - 1, 0), total);
  await attempt(async () => { await need(version); await need(against); });
}

export const heading = () => html`<a href=${href('streams')}>Streams</a> / ${name.type} / ${parts().join(' / ')}`;

const here = (v, w) => `${href('stream', name.type, name.id)}?${new URLSearchParams({ v, ...(w ? { with: w } : {}) })}`;

function show(v, w) {
  version = v;
  against = w ?? Math.max(v - 1, 0);
  history.replaceState(null, '', here(v, w));
  clearTimeout(timer);
  timer = setTimeout(() => attempt(async () => { await need(version); await need(against); }), 120);
  changed();
}

/** What the stream is after an event: events of the ontology hold it whole, others hold what happened. */
function content(e) {
  if (!e) return undefined;
  const d = e.data;
  return name.type === 'instance' && d && typeof d === 'object' && d.data && typeof d.data === 'object' ? d.data : d;
}

const value = (v) => (v === undefined ? html`<span class="muted">not there</span>` : html`<code>${mask ? '•••' : v.length > 300 ? `${v.slice(0, 300)}…` : v}</code>`);

function differences(a, b) {
  const before = content(seen.get(a));
  const after = content(seen.get(b));
  const rows = diff(before, after);
  return table(`What differs between version ${a} and version ${b}`, ['field', `version ${a}`, `version ${b}`], rows.slice(0, 300).map((r) => html`<tr class="diff">
    <td><code>${r.field}</code></td><td class="minus">${value(r.before)}</td><td class="plus">${value(r.after)}</td></tr>`), 'nothing differs');
}

async function at_time(event) {
  event.preventDefault();
  const time = new FormData(event.target).get('time');
  if (!time) return;
  const [db, cls, id] = parts();
  await attempt(async () => {
    const found = await get(query(url`/api/v1/databases/${db}/classes/${cls}/instances/${id}`, { at: `${time.length === 16 ? `${time}:00` : time}Z` }));
    show(found.version);
  });
}

function moment() {
  const e = seen.get(version);
  const past = version < total;
  return html`<section aria-labelledby="moment"><h2 id="moment">At version ${version}</h2>
    <div class="row slider"><button type="button" ?disabled=${version <= 1} @click=${() => show(version - 1)}>Earlier</button>
      <input type="range" min="1" max=${Math.max(total, 1)} .value=${String(version)} aria-label="Version" aria-valuetext=${`version ${version} of ${total}`} @input=${(i) => show(Number(i.target.value))}>
      <button type="button" ?disabled=${!past} @click=${() => show(version + 1)}>Later</button>
      ${name.type === 'instance' ? html`<form class="row" @submit=${at_time}><label>At a time (UTC) <input type="datetime-local" step="1" name="time"></label><button type="submit">Go</button></form>` : nothing}</div>
    ${past ? html`<p class="note past" role="status"><strong>You look at the past:</strong> version ${version} of ${total}${e ? html`, as of ${clock(e.time, true)}` : nothing}. <button type="button" class="small" @click=${() => show(total)}>Back to now</button></p>` : html`<p class="note good">This is the present as of ${clock(at)}: version ${total}, the last.</p>`}
    ${e ? html`<div class="two"><div><h3>Content</h3><pre class="json" tabindex="0">${mask ? 'hidden' : JSON.stringify(content(e) ?? null, null, 2)}</pre></div>
      <div><h3>Changed since version <input class="version" type="number" min="0" max=${total} aria-label="Compare with version" .value=${String(against)} @change=${(i) => show(version, Math.max(0, Math.min(total, Number(i.target.value) || 0)))}></h3>${differences(against, version)}</div></div>` : html`<p>Asking…</p>`}
  </section>`;
}

function refresh() {
  const to = href('stream', name.type, name.id);
  if (location.hash === to) dispatchEvent(new HashChangeEvent('hashchange'));
  else location.hash = to;
}

/** Fields that an event changed, as far as the one before it is known. */
function fields(e) {
  const before = seen.get(e.streamversion - 1);
  if (name.type === 'instance' && Array.isArray(e.data?.changed)) return e.data.changed.map((f) => ({ field: f }));
  return e.streamversion > 1 && !before ? [] : diff(content(before), content(e));
}

function entry(e) {
  const all = fields(e);
  const picked = e.streamversion === version;
  return html`<li class=${picked ? 'picked' : ''}><button type="button" class="small v" aria-pressed=${picked} @click=${() => show(e.streamversion)}>v${e.streamversion}</button>
    <div><strong>${e.type}</strong> <span title=${clock(e.time, true)}>${ago(e.time)}</span> by ${e.actor}<div class="fields">${all.slice(0, 8).map((f) => html`<code>${f.field}</code>`)}${all.length > 8 ? html`<span class="muted">and ${all.length - 8} more</span>` : nothing}</div>
      <div class="muted links"><a href=${href('log', ...e.position.split('/'))}>position ${e.position}</a> <a href=${href('log', 'command', e.commandid)}>command</a> <a href=${href('log', 'story', e.correlationid)}>correlation ${e.correlationid}</a></div></div></li>`;
}

export function view() {
  if (state.me && !may('read')) return html`<p class="note">${missing('read')}</p>`;
  if (!total) return failure(problem) || html`<p>Asking…</p>`;
  return html`${failure(problem)}<p class="row">${count(total, 'event')} ${badge(name.type)} ${button('Refresh', '', refresh)}
    <label class="check"><input type="checkbox" .checked=${mask} @change=${(e) => { mask = e.target.checked; changed(); }}> hide contents (shared screens)</label></p>
    ${moment()}
    <section aria-labelledby="timeline"><h2 id="timeline">History</h2><ol class="timeline">${events.map(entry)}</ol>
      ${older ? html`<button type="button" @click=${() => attempt(older_page)}>Older</button>` : nothing}</section>
    <section aria-labelledby="elsewhere"><h2 id="elsewhere">Elsewhere</h2>${copyable(`curl -s "$OMS_URL${path()}"`)}</section>`;
}
