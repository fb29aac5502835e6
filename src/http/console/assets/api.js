// The console's one way to the service: its public API, with the token of this tab, if there is one.

const KEY = 'oms.token';

/** Called with nothing when a request is answered 401. */
export const onSignIn = { needed() {} };

/** The token of this tab; gone when the tab is closed. */
export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  clear: () => sessionStorage.removeItem(KEY),
};

/** What the service refused or could not do: an RFC 9457 problem. `status` 0: it was not reached. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || body?.title || `HTTP ${status}`);
    this.status = status;
    this.code = body?.code ?? '';
    this.body = body ?? {};
  }
}

/** Builds a path: every value becomes one segment or one parameter, whatever it holds. */
export function url(parts, ...values) {
  return parts.reduce((path, part, i) => {
    const value = String(values[i - 1]);
    if (value === '.' || value === '..') throw new Problem(0, { detail: `a browser cannot ask for "${value}"` });
    return path + encodeURIComponent(value) + part;
  });
}

/** Adds parameters that have a value. */
export function query(path, params) {
  const given = Object.entries(params).filter(([, v]) => v !== undefined && v !== null && v !== '');
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

function headers(more) {
  const bearer = token.get();
  return { accept: 'application/json', ...(bearer ? { authorization: `Bearer ${bearer}` } : {}), ...more };
}

async function send(path, init, patience = 20000) {
  const bearer = token.get();
  const timer = AbortSignal.timeout(patience);
  const signal = init?.signal ? AbortSignal.any([init.signal, timer]) : timer;
  let response;
  try {
    response = await fetch(path, { cache: 'no-store', credentials: 'omit', ...init, signal, headers: headers(init?.headers) });
  } catch (error) {
    if (init?.signal?.aborted) throw error;
    throw new Problem(0, { detail: timer.aborted ? `no answer within ${patience / 1000} s` : 'the service cannot be reached' });
  }
  let body = null;
  try {
    const text = await response.text();
    body = text ? JSON.parse(text) : null;
  } catch {
    throw new Problem(response.ok ? 0 : response.status, { detail: 'the answer ended early or is no JSON' });
  }
  // A token that was changed meanwhile is not what was refused.
  if (response.status === 401 && bearer === token.get()) onSignIn.needed();
  return { status: response.status, ok: response.ok, headers: response.headers, body };
}

/** Reads; a failure is thrown as a Problem. */
export async function get(path, init) {
  const answer = await send(path, init);
  if (!answer.ok) throw new Problem(answer.status, answer.body);
  return answer.body;
}

/** The same for `/health`, whose 503 is an answer. */
export async function health() {
  const answer = await send('/health', {}, 5000);
  if (!answer.ok && !answer.body?.dependencies) throw new Problem(answer.status, answer.body);
  return answer.body;
}

/** Orders or asks with a body. */
export async function post(path, body, method = 'POST') {
  const init = { method };
  if (body !== undefined) Object.assign(init, { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
  const answer = await send(path, init);
  if (!answer.ok) throw new Problem(answer.status, answer.body);
  return answer.body;
}

/**
 * Server-sent events over fetch, since EventSource cannot send a token. Gives `{id, event, data}`, also of
 * heartbeats, which have a place and no data; ends when
 * `signal` is aborted or the service closes the stream.
 */
export async function* live(path, lastId, signal) {
  const more = { accept: 'text/event-stream', ...(lastId ? { 'last-event-id': lastId } : {}) };
  const bearer = token.get();
  let response;
  try {
    response = await fetch(path, { cache: 'no-store', credentials: 'omit', signal, headers: headers(more) });
  } catch (error) {
    if (signal.aborted) return;
    throw new Problem(0, { detail: 'the service cannot be reached' });
  }
  if (response.status === 401 && bearer === token.get()) onSignIn.needed();
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => null));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split('\n\n');
      rest = blocks.pop();
      for (const block of blocks) {
        const message = { id: '', event: 'message', data: '' };
        for (const line of block.split('\n')) {
          const at = line.indexOf(':');
          if (at > 0) message[line.slice(0, at)] = line.slice(at + 1).trimStart();
        }
        if (message.data || message.id) yield message;
      }
    }
  } catch (error) {
    if (!signal.aborted) throw new Problem(0, { detail: 'the live stream broke off' });
  } finally {
    reader.cancel().catch(() => {});
  }
}
