// Sign-in by a provider that nobody here wrote (oidc-provider, a certified one): its access tokens, given to a
// program by client credentials, are taken for what they say, and no others.
//
// OMS_BINARY: the service; its first argument: a folder for what it keeps.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Provider } from 'oidc-provider';

const AUDIENCE = 'urn:oms';
const folder = process.argv[2];
const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'];

/** A provider on a free port, and what asks it for tokens. */
async function provider() {
  const server = createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const keys = [];
  for (const [alg, made] of [
    ['RS256', { name: 'RSASSA-PKCS1-v1_5', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }],
    ['PS256', { name: 'RSA-PSS', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }],
    ['ES256', { name: 'ECDSA', namedCurve: 'P-256' }],
    ['EdDSA', { name: 'Ed25519' }],
  ]) {
    const pair = await crypto.subtle.generateKey(made, true, ['sign', 'verify']);
    const { key_ops: _operations, ext: _ext, ...jwk } = await crypto.subtle.exportKey('jwk', pair.privateKey);
    keys.push({ ...jwk, alg, use: 'sig', kid: `key-${alg}` });
  }
  const about = new Provider(issuer, {
    jwks: { keys },
    clients: ['reader', 'writer', 'stranger'].map((client_id) => ({
      client_id,
      client_secret: 'not so secret',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    })),
    scopes: ['oms:read', 'oms:write'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_context, resource) => {
          const [audience, alg = 'RS256', seconds = '300'] = resource.split('/');
          return {
            scope: 'oms:read oms:write',
            audience,
            accessTokenFormat: 'jwt',
            accessTokenTTL: Number(seconds),
            jwt: { sign: { alg } },
          };
        },
      },
    },
  });
  // What follows the name of the resource says how the token is to be made.
  const { callback } = about;
  server.on('request', callback.call(about));
  const token = async (client, scope, resource) => {
    const answer = await fetch(`${issuer}/token`, {
      method: 'POST',
      headers: { Authorization: `Basic ${btoa(`${client}:not so secret`)}` },
      body: new URLSearchParams({ grant_type: 'client_credentials', scope, resource }),
    });
    const body = await answer.json();
    assert.equal(answer.status, 200, JSON.stringify(body));
    return body.access_token;
  };
  return { issuer, token, close: () => server.close() };
}

/** A service that takes that provider's tokens. */
async function service(issuer) {
  const env = {
    ...process.env,
    OMS__AUTH__OIDC__ISSUER: issuer,
    OMS__AUTH__OIDC__AUDIENCE: JSON.stringify([AUDIENCE]),
    OMS__AUTH__OIDC__ROLES_CLAIM: 'scope',
    OMS__AUTH__OIDC__READ: '["oms:read"]',
    OMS__AUTH__OIDC__WRITE: '["oms:write"]',
    OMS__AUTH__OIDC__CLOCK_SKEW: '0s',
  };
  const running = spawn(process.env.OMS_BINARY, ['serve', '--data-dir', folder, '--port', '0', '--log-level', 'warn'], {
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ended = new Promise((done) => running.once('exit', done));
  let url;
  for (let left = 1200; !url; left--) {
    assert.ok(left > 0 && running.exitCode === null, 'the service did not start');
    await sleep(100);
    try {
      url = JSON.parse(readFileSync(`${folder}/endpoints.json`, 'utf8')).http;
      if (!(await fetch(`${url}/health/ready`)).ok) url = undefined;
    } catch {
      // Not there yet.
    }
  }
  const end = async () => {
    running.kill('SIGTERM');
    await ended;
  };
  return { url, end };
}

const idp = await provider();
const oms = await service(idp.issuer);
let failed = true;
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => oms.end().finally(() => process.exit(1)));
}
try {
  const ask = async (token, method = 'GET', path = '/api/v1/me') => {
    for (;;) {
      const answer = await fetch(oms.url + path, {
        method,
        headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
        body: method === 'POST' ? JSON.stringify({ events: [{ type: 'Seen', data: {} }] }) : undefined,
      });
      const body = await answer.json();
      if (answer.status !== 503) return { status: answer.status, body };
      await sleep(1000 * Number(answer.headers.get('retry-after')));
    }
  };
  for (const alg of ALGORITHMS) {
    const me = await ask(await idp.token('reader', 'oms:read', `${AUDIENCE}/${alg}`));
    assert.equal(me.status, 200, `${alg}: ${JSON.stringify(me.body)}`);
    assert.equal(me.body.name, 'oidc:reader');
    assert.deepEqual(me.body.roles, ['read']);
    console.log(`taken: a token signed with ${alg}`);
  }
  const writer = await idp.token('writer', 'oms:read oms:write', AUDIENCE);
  const stream = '/api/v1/streams/visit/1/events';
  assert.equal((await ask(writer, 'POST', stream)).status, 201);
  const events = await ask(writer, 'GET', stream);
  assert.ok(JSON.stringify(events.body).includes('oidc:writer'), JSON.stringify(events.body));
  const reader = await idp.token('reader', 'oms:read', AUDIENCE);
  assert.equal((await ask(reader, 'POST', stream)).status, 403);
  assert.equal((await ask(await idp.token('stranger', '', AUDIENCE), 'GET', stream)).status, 403);
  assert.equal((await ask(await idp.token('writer', 'oms:write', 'urn:billing'))).status, 401);
  const brief = await idp.token('reader', 'oms:read', `${AUDIENCE}/ES256/1`);
  await sleep(2100);
  const over = await ask(brief);
  assert.equal(over.status, 401);
  assert.match(over.body.detail, /expired/);
  console.log('refused: without the role, for another service, after its end');
  failed = false;
} finally {
  await oms.end();
  idp.close();
  process.exitCode = failed ? 1 : 0;
}
