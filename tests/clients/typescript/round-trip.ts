// A round trip with a client whose types openapi-typescript made of docs/openapi.json. The compiler is strict: what
// the description forgets does not compile here.

import { strictEqual, deepStrictEqual, ok } from 'node:assert/strict'
import createClient from 'openapi-fetch'
import type { components, paths } from './api.js'

const baseUrl = process.env.OMS_API
ok(baseUrl, 'OMS_API names the service')
const token = process.env.OMS_TOKEN
const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {}
const api = createClient<paths>({ baseUrl, headers })

type Problem = components['schemas']['Problem']
type ClassDefinition = components['schemas']['ClassDefinition']

const db = `ts${Date.now().toString(36)}`
const inClass = { db, class: 'Film' }
const one = { ...inClass, id: 'f1' }

function problemOf(answer: { error?: Problem; response: Response }, status: number, code: string): Problem {
  strictEqual(answer.response.status, status)
  ok(answer.error, `${status} carries a problem`)
  strictEqual(answer.error.code, code)
  strictEqual(answer.error.status, status)
  return answer.error
}

const created = await api.POST('/api/v1/databases', { body: { name: db, description: 'films' } })
strictEqual(created.response.status, 201)
strictEqual(created.data?.id, db)
strictEqual(created.data.version, 1)
problemOf(await api.POST('/api/v1/databases', { body: { name: db } }), 409, 'database_exists')

const film: ClassDefinition = {
  id: 'Film',
  label: 'Film',
  properties: [
    { name: 'title', type: 'string', required: true, constraints: { min_length: 1 } },
    { name: 'year', type: 'integer', constraints: { min: 1888, max: 2100 } },
  ],
}
const defined = await api.POST('/api/v1/databases/{db}/classes', { params: { path: { db } }, body: film })
strictEqual(defined.response.status, 201)

const made = await api.POST('/api/v1/databases/{db}/classes/{class}/instances', {
  params: { path: inClass, header: { 'Idempotency-Key': `${db}-f1` } },
  body: { id: 'f1', data: { title: 'Metropolis', year: 1927 }, metadata: { by: 'ann' } },
})
strictEqual(made.response.status, 201)
strictEqual(made.response.headers.get('etag'), '"1"')
ok(made.data)
deepStrictEqual(made.data.stored_in, ['s3'])

const refused = await api.POST('/api/v1/databases/{db}/classes/{class}/instances', {
  params: { path: inClass },
  body: { data: { year: 1700 } },
})
const violations = problemOf(refused, 422, 'validation_failed').violations ?? []
deepStrictEqual(violations.map((v) => [v.field, v.code]).sort(), [['data.title', 'required'], ['data.year', 'min']])

const patched = await api.PATCH('/api/v1/databases/{db}/classes/{class}/instances/{id}', {
  params: { path: one, header: { 'If-Match': '"1"' } },
  body: { year: 1926 },
  headers: { 'content-type': 'application/merge-patch+json' },
})
strictEqual(patched.data?.version, 2)
const late = await api.PATCH('/api/v1/databases/{db}/classes/{class}/instances/{id}', {
  params: { path: one, header: { 'If-Match': '"1"' } },
  body: { year: 1925 },
  headers: { 'content-type': 'application/merge-patch+json' },
})
strictEqual(problemOf(late, 412, 'version_mismatch').actual_version, 2)

const position = patched.data.position
ok(position)
const found = await api.POST('/api/v1/databases/{db}/classes/{class}/instances/query', {
  params: { path: inClass, header: { 'X-Min-Position': position } },
  body: { filters: [{ field: 'year', op: 'lt', value: 1950 }], sort: ['-year', { field: 'id' }], limit: 10 },
})
strictEqual(found.data?.items[0]?.id, 'f1')
deepStrictEqual(found.data.items[0].data, { title: 'Metropolis', year: 1926 })

const known = await api.GET('/api/v1/databases/{db}/classes/{class}/instances/{id}', {
  params: { path: one, header: { 'If-None-Match': '"2"' } },
})
strictEqual(known.response.status, 304)
const gone = await api.GET('/api/v1/databases/{db}/classes/{class}/instances/{id}', {
  params: { path: { ...inClass, id: 'nobody' } },
})
problemOf(gone, 404, 'instance_not_found')

const stream = await api.POST('/api/v1/streams/{type}/{id}/events', {
  params: { path: { type: 'order', id: db } },
  body: { events: [{ type: 'OrderPlaced', data: { total: 12.5, lines: [1, 'two', null] } }] },
})
strictEqual(stream.response.status, 201)

const types: string[] = []
let after: string | undefined
for (let pages = 0; pages < 1000; pages++) {
  const query = after === undefined ? { limit: 100 } : { limit: 100, after }
  // Asked for `text/event-stream` the feed answers with text.
  const { data: page } = await api.GET('/api/v1/events', { params: { query } })
  ok(typeof page === 'object')
  if (page.items.length === 0) break
  for (const event of page.items) {
    if (event.streamid.split('/')[0] === db) types.push(`${event.streamversion} ${event.type}`)
  }
  after = page.next_cursor ?? undefined
}
deepStrictEqual(types.sort(), [
  '1 ClassCreated', '1 DatabaseCreated', '1 InstanceCreated', '1 OrderPlaced', '2 InstanceUpdated',
])

const command = await api.GET('/api/v1/commands/{command_id}', {
  params: { path: { command_id: patched.data.command_id } },
})
strictEqual(command.data?.status, 'committed')
const deleted = await api.DELETE('/api/v1/databases/{db}/classes/{class}/instances/{id}', { params: { path: one } })
strictEqual(deleted.response.status, 200)
console.log(`TypeScript: the round trip on ${db} is done`)
