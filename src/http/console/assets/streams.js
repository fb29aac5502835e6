// Finding a stream: by database, class and instance, by its name, by a position, by a command.

import { html, nothing } from './vendor/lit-html.js';
import { get, post, query, url } from './api.js';
import { ago, clock, number } from './format.js';
import { changed, may, missing, state } from './state.js';
import { failure, href, table } from './ui.js';

export const title = 'Streams';

const PAGE = 50;
let where = [];
let page = null;
let problem = null;
let prefix = '';
let cursors = [];
let asked = 0;

async function load() {
  const [db, cls] = where;
  const mine = (asked += 1);
  page = null;
  problem = null;
  changed();
  try {
    const cursor = cursors.at(-1);
    let found;
    if (!db) found = await get(query('/api/v1/databases', { limit: PAGE, cursor }));
    else if (!cls) found = await get(query(url`/api/v1/databases/${db}/classes`, { limit: PAGE, cursor }));
    else {
      const filters = prefix ? [{ field: 'id', op: 'starts_with', value: prefix }] : [];
      found = await post(url`/api/v1/databases/${db}/classes/${cls}/instances/query`, { filters, limit: PAGE, ...(cursor ? { cursor } : {}) });
    }
    if (mine === asked) page = found;
  } catch (error) {
    if (mine === asked) problem = error;
  }
  changed();
}

export function enter(parts, search) {
  const same = JSON.stringify(parts) === JSON.stringify(where);
  where = parts;
  prefix = search.get('prefix') ?? '';
  // Back comes to the page that was left.
  if (!same) cursors = [];
  return state.me && !may('read') ? undefined : load();
}

export function heading() {
  return where.length ? html`<a href=${href('streams')}>Streams</a>${where.map((w, i) => html` / <a href=${href('streams', ...where.slice(0, i + 1))}>${w}</a>`)}` : title;
}

const kinds = ['database', 'class', 'instance'];
const streamOf = (id) => href('stream', kinds[where.length], [...where, id].map(encodeURIComponent).join('/'));
const short = (data) => { const text = JSON.stringify(data); return text.length > 160 ? `${text.slice(0, 160)}…` : text; };

function list() {
  if (problem) return failure(problem);
  if (!page) return html`<p>Asking…</p>`;
  const inner = where.length < 2;
  const things = ['Databases', 'Classes', 'Instances'][where.length];
  return html`${table(things, ['id', { text: 'version', num: true }, 'changed', 'history', 'data'], page.items.map((i) => html`<tr>
      <td>${inner ? html`<a href=${href('streams', ...where, i.id)}>${i.id}</a>` : html`<a href=${streamOf(i.id)}>${i.id}</a>`}</td><td class="num">${i.version}</td>
      <td title=${clock(i.updated_at)}>${ago(i.updated_at)}</td><td><a href=${streamOf(i.id)} aria-label=${`history of ${i.id}`}>history</a></td><td class="body">${short(i.data)}</td></tr>`), 'there are none')}
    <p class="row">${cursors.length ? html`<button type="button" @click=${() => { cursors.pop(); load(); }}>Before</button>` : nothing}
      ${page.next_cursor ? html`<button type="button" @click=${() => { cursors.push(page.next_cursor); load(); }}>More</button>` : nothing}
      <span class="muted">${cursors.length ? `page ${cursors.length + 1}, ` : ''}${page.total !== undefined && page.total !== null ? `${number(page.total)} in all` : ''}</span></p>`;
}

const go = (make) => (event) => {
  event.preventDefault();
  const to = make(new FormData(event.target));
  if (to) location.hash = to;
};

function jump() {
  return html`<section aria-labelledby="jump"><h2 id="jump">Open one</h2><div class="forms">
    <form @submit=${go((f) => href('stream', f.get('type').trim(), f.get('id').trim()))}><label>Stream type <input name="type" required placeholder="order"></label><label>Id <input name="id" required placeholder="2026-0042"></label><button type="submit">Open</button></form>
    <form @submit=${go((f) => href('log', ...f.get('position').trim().split('/')))}><label>Position <input name="position" required placeholder="0/12/3" pattern="\\s*\\d+/\\d+(/\\d+)?\\s*"></label><button type="submit">Open</button></form>
    <form @submit=${go((f) => href('log', 'command', f.get('id').trim()))}><label>Command id <input name="id" required placeholder="01a2…"></label><button type="submit">Open</button></form>
  </div></section>`;
}

export function view() {
  if (state.me && !may('read')) return html`<p class="note">${missing('read')}</p>`;
  return html`${where.length === 2 ? html`<form class="row" @submit=${go((f) => `${href('streams', ...where)}${f.get('prefix') ? `?${new URLSearchParams({ prefix: f.get('prefix') })}` : ''}`)}>
      <label>Ids that begin with <input type="search" name="prefix" .value=${prefix}></label><button type="submit">Find</button></form>` : nothing}
    ${list()}${where.length ? nothing : jump()}`;
}
