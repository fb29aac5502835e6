// What the CloudEvents SDK for JavaScript makes of each message that messages.py has left.
//     node sdk.mjs FILE

import { strictEqual } from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { Kafka } from 'cloudevents'

function readBy(line, asBuffers) {
  const headers = { ...line.headers }
  // kafkajs gives headers as buffers.
  if (asBuffers) for (const name in headers) headers[name] = Buffer.from(headers[name])
  const text = Buffer.from(line.value, 'base64').toString()
  let event
  try {
    const message = { key: line.key, headers, value: asBuffers ? Buffer.from(text) : text, body: text }
    if (!Kafka.isEvent(message)) return 'no event'
    event = Kafka.toEvent(message)
  } catch (error) {
    return `${error.name}: ${error.message.split('\n')[0].slice(0, 80)}`
  }
  if (line.headers.claim_check) return 'taken for an event'
  const wanted = JSON.parse(text)
  if (!isDeepStrictEqual(event.data, wanted.data)) return 'other data'
  const names = Object.keys(wanted).filter((name) => name !== 'data' && name !== 'time')
  const wrong = names.filter((name) => event[name] !== wanted[name])
  if (Date.parse(event.time) !== Date.parse(wanted.time)) wrong.push('time')
  return wrong.length > 0 ? `wrong attributes: ${wrong}` : 'right'
}

const found = {}
for (const text of readFileSync(process.argv[2], 'utf8').trim().split('\n')) {
  const line = JSON.parse(text)
  const kind = line.headers.claim_check ? 'references' : 'events'
  for (const asBuffers of [false, true]) {
    const name = `${kind}, headers and value as ${asBuffers ? 'buffers' : 'texts'}`
    const verdict = readBy(line, asBuffers)
    found[name] ??= {}
    found[name][verdict] = (found[name][verdict] ?? 0) + 1
  }
}
for (const name of Object.keys(found).sort()) console.log(`CloudEvents, JavaScript, ${name}:`, found[name])
// What CONSUMERS.md says of it; a newer SDK may do better, and then that page is to be corrected.
const only = (name) => Object.keys(found[name]).join()
strictEqual(only('events, headers and value as texts'), 'right')
strictEqual(only('references, headers and value as texts'), 'taken for an event')
strictEqual(only('events, headers and value as buffers'), 'TypeError: contentType.startsWith is not a function')
