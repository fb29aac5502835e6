// The log itself: a commit object as stored, an event in it, what became of a command, what belongs together.

import { html, nothing } from './vendor/lit-html.js';
import { get, query, url } from './api.js';
import { streamHref } from './delivery.js';
import { ago, bytes, clock, number, shell, store } from './format.js';
import { changed, may, missing, state } from './state.js';
import { badge, copyable, failure, href, table } from './ui.js';

export const title = 'Log';

let what = { kind: 'none' };
let answer = null;
let asked = 0;
let problem = null;

export async function enter(parts) {
  answer = problem = null;
  asked += 1;
  const mine = asked;
  const [first, second, third] = parts;
  if (!first) what = { kind: 'none' };
  else if (first === 'command') what = { kind: 'command', id: second ?? '' };
  else if (first === 'story') what = { kind: 'story', id: second ?? '' };
  else what = { kind: 'commit', partition: first, offset: second ?? '', index: third };
  if (state.me && !may('read')) return;
  const ask = {
    none: () => null,
    command: () => get(url`/api/v1/commands/${what.id}`),
    commit: () => get(url`/api/v1/log/${what.partition}/${what.offset}`),
    story: () => recent(() => mine === asked),
  }[what.kind];
  let [found, failed] = [null, null];
  try {
    found = await ask();
  } catch (error) {
    failed = error;
  }
  // Another page was asked for meanwhile.
  if (mine !== asked) return;
  [answer, problem] = [found, failed];
  changed();
}

const PAGES = 20;

/** The events of the last commits of each partition, and whether there are more than were read. */
async function recent(wanted) {
  const items = [];
  let place = { after: 'latest', back: 200 };
  for (let n = 0; n < PAGES && wanted(); n += 1) {
    const page = await get(query('/api/v1/events', { ...place, limit: 1000 }));
    if (!page.items.length) return { items, more: false };
    items.push(...page.items);
    place = { after: page.next_cursor };
  }
  return { items, more: true };
}

const STATES = { here: 'good', absent: 'warn', unknown: 'bad' };

function parse(line) {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

function event(line, index, o) {
  const e = parse(line);
  if (!e?.subject) return html`<pre class="json" tabindex="0">${line}</pre>`;
  const position = `${o.partition}/${o.offset}/${index}`;
  return html`<article class="card wide ${String(index) === what.index ? 'picked' : ''}" id=${`e${index}`}><h3>${e.type} <span class="muted">${position}</span></h3>
    <dl class="facts"><div><dt>Stream</dt><dd><a href=${`${streamHref(e.subject)}?v=${e.streamversion}`}>${e.subject}</a>, version ${e.streamversion}</dd></div>
      <div><dt>Recorded</dt><dd>${clock(e.time, true)}, ${ago(e.time)}, by ${e.actor}</dd></div>
      <div><dt>Caused by</dt><dd><a href=${href('log', 'command', e.commandid)}>command ${e.commandid}</a></dd></div>
      <div><dt>Belongs to</dt><dd><a href=${href('log', 'story', e.correlationid)}>correlation ${e.correlationid}</a></dd></div>
      <div><dt>Event id</dt><dd><code>${e.id}</code></dd></div></dl>
    <pre class="json" tabindex="0">${JSON.stringify(e.data ?? null, null, 2)}</pre></article>`;
}

function commit(o) {
  const header = parse(o.lines[0]);
  const at = `s3://${o.bucket}/${o.key}`;
  const endpoint = o.s3_endpoint ? ` --endpoint-url ${shell(o.s3_endpoint)}` : '';
  const s3 = o.places.find((p) => p.store === 's3');
  const hashes = new Set(o.places.map((p) => p.sha256).filter(Boolean));
  const shown = what.index === undefined ? o.lines.slice(1).map((l, i) => [l, i]) : [[o.lines[Number(what.index) + 1], Number(what.index)]].filter(([l]) => l !== undefined);
  const offset = Number(what.offset);
  return html`<nav class="row" aria-label="Neighbours">${offset > 0 ? html`<a class="button" href=${href('log', what.partition, String(offset - 1))}>Commit before</a>` : nothing}
      <a class="button" href=${href('log', what.partition, String(offset + 1))}>Commit after</a>${what.index === undefined ? nothing : html`<a class="button" href=${href('log', what.partition, what.offset)}>Whole commit</a>`}</nav>
    <section aria-labelledby="where"><h2 id="where">Where it lies</h2>
      ${table('Places', ['store', 'state', 'SHA-256'], o.places.map((p) => html`<tr><td>${store(p.store)}</td><td>${badge(p.state, STATES[p.state])}${p.error ? html` ${p.error}` : nothing}</td><td><code>${p.sha256 ?? ''}</code></td></tr>`))}
      ${hashes.size > 1 ? html`<p class="note bad"><strong>The places differ.</strong> <a href=${href('runbook', 'the-stores-differ')}>Runbook: The stores differ</a></p>` : nothing}
      <p>${bytes(o.bytes)} · ${number(o.lines.length - 1)} lines · <code id="s3-address">${at}</code>${s3?.state === 'absent' ? html` <span class="muted">(not there: S3 holds no copy of it)</span>` : nothing}</p>
      ${copyable(`aws s3 cp ${shell(at)} -${endpoint}`)}${copyable(`oms log cat ${o.partition}/${o.offset}`)}${copyable(`curl -s "$OMS_URL/api/v1/log/${o.partition}/${o.offset}"`)}</section>
    ${header ? html`<section aria-labelledby="header"><h2 id="header">Header</h2><dl class="facts"><div><dt>Formed</dt><dd>${clock(header.at, true)}, epoch ${header.epoch}</dd></div>
      <div><dt>Writer</dt><dd><code>${header.writer}</code>, batch ${header.batch}</dd></div><div><dt>Hash of the commit before</dt><dd><code>${header.prev}</code></dd></div><div><dt>Kind</dt><dd>${header.kind === 'control' ? 'control: who leads from here on' : 'events'}</dd></div></dl></section>` : nothing}
    <section aria-labelledby="events"><h2 id="events">${what.index === undefined ? 'Events' : 'Event'}</h2>${shown.slice(0, 100).map(([l, i]) => event(l, i, o))}${shown.length > 100 ? html`<p class="muted">and ${shown.length - 100} more</p>` : nothing}</section>
    <section aria-labelledby="stored"><h2 id="stored">As stored</h2><pre class="json raw" tabindex="0">${(what.index === undefined ? o.lines : shown.map(([l]) => l)).slice(0, 101).join('\n')}</pre></section>`;
}

function command(c) {
  return html`<dl class="facts"><div><dt>Command</dt><dd><code>${c.command_id}</code> ${badge(c.status, 'good')}</dd></div><div><dt>Recorded</dt><dd>${clock(c.at, true)}, ${ago(c.at)}</dd></div>
    <div><dt>Its events</dt><dd>${c.events}, the first at <a href=${href('log', ...c.position.split('/'))}>${c.position}</a>; the stream was then at version ${c.version}</dd></div></dl>`;
}

function story(page) {
  const found = page.items.filter((e) => e.correlationid === what.id);
  return html`<p>Events with the correlation <code>${what.id}</code>, among the ${number(page.items.length)} events ${page.more ? 'that were looked at; not all of the last 200 commits of each partition were' : 'of the last 200 commits of each partition'}:</p>
    ${table('Events that belong together', ['when', 'event', 'stream', 'by', 'position'], found.map((e) => html`<tr><td>${clock(e.time, true)}</td><td>${e.type}</td><td><a href=${streamHref(e.subject)}>${e.subject}</a></td><td>${e.actor}</td><td><a href=${href('log', ...e.position.split('/'))}>${e.position}</a></td></tr>`), page.more ? 'none is among those that were looked at; there are more' : 'none is among them: it is older')}`;
}

const NAMES = { none: 'Log', commit: 'Commit', command: 'Command', story: 'Correlation' };
export const heading = () => (what.kind === 'commit' ? `${what.index === undefined ? 'Commit' : 'Event'} ${[what.partition, what.offset, what.index].filter((x) => x !== undefined).join('/')}` : NAMES[what.kind]);

function partitions() {
  return html`<p>The log has ${state.migration ? `${state.migration.partitions.length} partitions` : 'partitions'}; a commit object is one line of header and one line an event. Pick the last of one, or open a position under <a href=${href('streams')}>Streams</a>.</p>
    ${table('Partitions', [{ text: 'partition', num: true }, { text: 'commits', num: true }, 'last commit'], (state.migration?.partitions ?? []).map((p) => html`<tr><td class="num">${p.partition}</td><td class="num">${number(p.next_offset)}</td>
      <td>${p.next_offset > 0 ? html`<a href=${href('log', String(p.partition), String(p.next_offset - 1))}>${p.partition}/${p.next_offset - 1}</a>` : 'none'}</td></tr>`), may('admin') ? 'none' : 'what they are needs the role “admin”')}`;
}

export function view() {
  if (state.me && !may('read')) return html`<p class="note">${missing('read')}</p>`;
  if (problem) return failure(problem);
  if (what.kind === 'none') return partitions();
  if (!answer) return html`<p>Asking…</p>`;
  return { commit, command, story }[what.kind](answer);
}
