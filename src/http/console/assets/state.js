// What every page shows, asked for every two seconds in one or two requests while the tab is seen, and never
// while it is not. Old figures stay, and are said to be old.

import { Problem, get, health, onSignIn, query } from './api.js';

/** Pause between two looks. */
export const EVERY = 2000;
const METRICS_EVERY = 5000;
const HISTORY_EVERY = 15000;
const KEPT = 720;

export const state = {
  /** `/api/v1/me`, and `/api/v1/admin/service` with the role. */
  me: null,
  about: null,
  /** The last answers. */
  health: null,
  migration: null,
  history: [],
  /** Why the history is not known, or older. */
  historyProblem: null,
  metrics: { times: [], figures: new Map() },
  /** When the service was heard last, and what became of the last look: null, or a Problem. */
  heard: 0,
  lost: null,
  /** Why some of what is shown is older than the rest: a Problem of a service that is there. */
  partial: null,
  /** A token must be given. */
  signIn: false,
};

let listener = () => {};
let signedIn = () => {};
let timer = 0;
let running = false;
let due = { metrics: 0, history: 0 };
const extras = new Set();

/** Calls `then` after every change. */
export function listen(then) {
  listener = then;
}

/** Calls `then` when somebody has signed in: pages asked before, and were refused. */
export function onSignedIn(then) {
  signedIn = then;
}

/** Something that is shown has changed. */
export const changed = () => listener();

/** Whether the caller has a role; unknown callers have none. */
export const may = (role) => !!state.me?.roles.includes(role);

/** Why a button cannot be pressed; empty when it can. */
export function missing(role) {
  if (state.lost) return 'the service is away';
  if (may(role)) return '';
  return state.me ? `${state.me.name} lacks the role “${role}”` : `needs the role “${role}”`;
}

/** Asks for something more, every so often, while the returned function is not called. */
export function poll(every, ask) {
  const extra = { every, ask, due: 0 };
  extras.add(extra);
  tick();
  return Object.assign(() => extras.delete(extra), { now: () => { extra.due = 0; tick(); } });
}

let refused = false;

onSignIn.needed = () => {
  refused = true;
  state.signIn = true;
  state.me = null;
  changed();
};

async function look() {
  const now = Date.now();
  // Without its health nothing is known, whoever answered instead of it.
  const asked = [health().then((h) => { state.health = h; }, (e) => { throw new Problem(0, { detail: e.message }); })];
  // Also where who is asking cannot be learnt, and nobody waits for it.
  asked[0].catch(() => {});
  if (!state.me) {
    state.me = await get('/api/v1/me').catch((e) => { if (e.status !== 401) throw e; return null; });
    if (state.me && refused) {
      refused = false;
      signedIn();
    }
  }
  if (may('admin')) {
    asked.push(get('/api/v1/admin/migration').then((m) => { state.migration = m; }));
    if (!state.about) asked.push(get('/api/v1/admin/service').then((a) => { state.about = a; }));
    if (now >= due.metrics) { due.metrics = now + METRICS_EVERY; asked.push(metrics()); }
    if (now >= due.history) { due.history = now + HISTORY_EVERY; asked.push(history()); }
  }
  for (const extra of extras) {
    if (now < extra.due) continue;
    extra.due = now + extra.every;
    asked.push(Promise.resolve(extra.ask()).catch((e) => { if (e.status === 0) throw e; }));
  }
  const failed = (await Promise.allSettled(asked)).filter((a) => a.status === 'rejected').map((a) => a.reason);
  // That it is away says more than that it refused something.
  if (failed.length) throw failed.find((e) => !e.status) ?? failed[0];
}

async function metrics() {
  const kept = state.metrics;
  const body = await get(query('/api/v1/admin/metrics', { after: kept.times.at(-1) }));
  // A process that began anew knows nothing of what was before: the gap is shown as one.
  // Its clock was set back: what it gave before belongs to no time any more, and it gives all that it still has.
  if (body.times.length && kept.times.length && body.times[0] <= kept.times.at(-1)) Object.assign(kept, { times: [], figures: new Map() });
  for (const figure of body.figures) {
    const known = kept.figures.get(figure.name) ?? { ...figure, values: [] };
    known.values = known.values.concat(figure.values).slice(-KEPT);
    kept.figures.set(figure.name, known);
  }
  kept.times = kept.times.concat(body.times).slice(-KEPT);
  kept.every = body.every_seconds;
}

async function history() {
  // Needs PostgreSQL; without it the pages say so where the history is shown.
  try {
    state.history = (await get('/api/v1/admin/migration/history?limit=50')).items;
    state.historyProblem = null;
  } catch (error) {
    if (error.status === 0) throw error;
    state.historyProblem = error;
  }
}

/** Looks at the history at once: something was ordered. */
export const historyNow = () => { due.history = 0; tick(); };

async function tick() {
  if (running || document.hidden || state.signIn) return;
  running = true;
  clearTimeout(timer);
  try {
    await look();
    Object.assign(state, { heard: Date.now(), lost: null, partial: null });
  } catch (error) {
    if (!(error instanceof Problem)) console.error(error);
    // It is there and refuses, or lacks a dependency: its health tells which, and buttons stay.
    if (error.status > 0) Object.assign(state, { heard: Date.now(), lost: null, partial: error });
    else state.lost = error;
  }
  running = false;
  if (!document.hidden) timer = setTimeout(tick, EVERY);
  changed();
}

document.addEventListener('visibilitychange', tick);

/** Begins, or begins again with another token. */
export function begin() {
  Object.assign(state, { me: null, about: null, migration: null, history: [], historyProblem: null, signIn: false, partial: null, metrics: { times: [], figures: new Map() } });
  due = { metrics: 0, history: 0 };
  tick();
}

/** The newest value of a figure; null when nothing is known. */
export const latest = (name) => state.metrics.figures.get(name)?.values.at(-1) ?? null;

/** How often something was counted within the last so many samples. */
export function growth(name, samples) {
  const values = (state.metrics.figures.get(name)?.values ?? []).slice(-samples).filter((v) => v !== null);
  return values.length > 1 ? values.at(-1) - values[0] : 0;
}
