// The shell: which page, who is signed in, how the service is; draws when something has changed.

import { html, nothing, render } from './vendor/lit-html.js';
import { token } from './api.js';
import { drawCharts } from './charts.js';
import { clock, duration } from './format.js';
import { whoLeads } from './road.js';
import { begin, changed, listen, onSignedIn, state } from './state.js';
import { closeDialog, dialogOpen, dialogView, failure, href } from './ui.js';
import * as actors from './actors.js';
import * as audit from './audit.js';
import * as delivery from './delivery.js';
import * as feed from './feed.js';
import * as jobs from './jobs.js';
import * as log from './log.js';
import * as metrics from './metrics.js';
import * as overview from './overview.js';
import * as projections from './projections.js';
import * as runbook from './runbook.js';
import * as stream from './stream.js';
import * as streams from './streams.js';
import * as switches from './switch.js';

const PAGES = { overview, switch: switches, jobs, delivery, projections, actors, audit, metrics, streams, stream, log, feed, runbook };
const NAV = [
  ['Operate', ['overview', 'switch', 'jobs', 'delivery', 'projections', 'actors', 'audit', 'metrics']],
  ['Data', ['streams', 'feed', 'log']],
  ['Help', ['runbook']],
];

const app = document.getElementById('app');
let page = overview;
let name = 'overview';
let problem = null;
let scheduled = false;

function route() {
  const [path, search] = location.hash.replace(/^#\/?/, '').split('?');
  let parts;
  try {
    parts = path.split('/').filter(Boolean).map(decodeURIComponent);
  } catch {
    parts = [];
  }
  const wanted = parts.shift() ?? 'overview';
  name = PAGES[wanted] ? wanted : 'overview';
  const next = PAGES[name];
  if (page !== next) page.leave?.();
  // What it asks belongs to the page that was left.
  closeDialog();
  page = next;
  problem = null;
  Promise.resolve(page.enter?.(parts, new URLSearchParams(search ?? ''))).catch((error) => { problem = error; changed(); });
  document.title = `${page.title} · oms`;
  changed();
}

let entered = { value: '', refused: '' };

function signIn(event) {
  event.preventDefault();
  const value = entered.value.trim();
  // What cannot stand in a header cannot be a token, and would keep every request from being sent.
  if (!/^[\x21-\x7e]+$/.test(value)) {
    entered = { value: '', refused: 'A token consists of visible ASCII characters.' };
    changed();
    return;
  }
  token.set(value);
  entered = { value: '', refused: 'The service does not take this token: it is not known, or it has ended.' };
  begin();
}

function signOut() {
  token.clear();
  // Nothing of what was seen stays for whoever signs in next.
  history.replaceState(null, '', href('overview'));
  location.reload();
}

function signInView() {
  return html`<main id="main" class="sign-in"><form @submit=${signIn}>
    <h1>Sign in to oms</h1>
    <p>This service asks for a token. It is kept in this tab until you close it or sign out, and sent in a header, never in an address.</p>
    ${entered.refused ? html`<p class="note bad" role="alert">${entered.refused}</p>` : nothing}
    <label>Token <input type="password" autocomplete="off" required .value=${entered.value} @input=${(e) => { entered.value = e.target.value; }}></label>
    <div class="row end"><button class="primary" type="submit">Sign in</button></div>
    <p class="muted">Tokens are made by <code>oms config token NAME</code> and named in the configuration with their roles; where a provider is configured (<code>auth.oidc</code>) its access tokens are taken too.</p>
  </form></main>`;
}

function header() {
  const [kind, word] = overview.verdict();
  const seconds = state.heard ? (Date.now() - state.heard) / 1e3 : 0;
  return html`<header class="top">
    <a class="brand" href=${href('overview')}><img src="icon.svg" alt="" width="22" height="22"> oms</a>
    <a class="status ${kind}" href=${href('overview')} id="status"><b>${word}</b><span>${state.health ? `${whoLeads()} · ${state.migration?.stage ?? state.health.migration_mode}` : ''}</span></a>
    <span class="fresh ${state.lost ? 'bad' : ''}" role="status" id="fresh">${state.lost ? html`as of ${state.heard ? `${duration(seconds)} ago` : 'never'}, connection lost` : state.heard ? `as of ${seconds < 4 ? 'now' : `${duration(seconds)} ago`}` : ''}</span>
    <span class="who">${state.me ? html`<span>${state.me.name}</span>${state.me.tokens ? html` <button type="button" class="small" @click=${signOut}>Sign out</button>` : nothing}` : nothing}</span>
  </header>`;
}

const nav = () => html`<nav aria-label="Pages">${NAV.map(([group, pages]) => html`<div class="group"><div class="group-name">${group}</div>${pages.map((p) => {
  const here = p === name || (p === 'streams' && name === 'stream');
  return html`<a href=${href(p)} aria-current=${here ? 'page' : nothing}>${PAGES[p].title}</a>`;
})}</div>`)}</nav>`;

function shell() {
  if (state.signIn) return signInView();
  return html`<a class="skip" href="#main" @click=${(e) => { e.preventDefault(); document.getElementById('main').focus(); }}>To the content</a>
    ${header()}<div class="body">${nav()}<main id="main" tabindex="-1" class=${state.lost ? 'old' : ''}>
      <h1>${page.heading?.() ?? page.title}</h1>
      ${state.lost && name !== 'overview' ? html`<p class="note bad" role="alert">The service is away: ${state.lost.message}. What is shown is as of ${state.heard ? clock(state.heard) : 'never'}.</p>` : nothing}
      ${failure(problem)}${content()}
    </main></div>
    <footer>oms ${state.health?.version ?? ''}${state.about ? html` · node ${state.about.node} · bucket ${state.about.bucket}` : nothing} · <a href="/docs/">API</a> · times are UTC</footer>
    <dialog aria-labelledby="dialog-title" @cancel=${(e) => { e.preventDefault(); closeDialog(); }}>${dialogView()}</dialog>`;
}

/** A page that cannot be drawn says so; the rest of the console goes on. */
function content() {
  try {
    return page.view();
  } catch (error) {
    console.error(error);
    return failure(error);
  }
}

function draw() {
  scheduled = false;
  render(shell(), app);
  drawCharts(app);
  const dialog = app.querySelector('dialog');
  if (!dialog) return;
  if (dialogOpen() && !dialog.open) dialog.showModal();
  if (!dialogOpen() && dialog.open) dialog.close();
}

listen(() => {
  if (!scheduled) { scheduled = true; requestAnimationFrame(draw); }
});
addEventListener('hashchange', () => { route(); document.getElementById('main')?.focus({ preventScroll: true }); scrollTo(0, 0); });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
addEventListener('resize', changed);
// Ages grow though nothing is asked.
setInterval(() => { if (!document.hidden) changed(); }, 1000);
onSignedIn(route);
route();
begin();
