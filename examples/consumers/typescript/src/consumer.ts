// A consumer of oms that misses nothing and applies nothing twice.
//
// It keeps the newest state of every stream in a file: first it reads the feed up to its end, then it follows Kafka as
// a member of a group.
//
//     npm install && npm run build
//     node dist/consumer.js --api http://127.0.0.1:8000 --kafka 127.0.0.1:9092 --state copy.json
//
// Kill it, start it again, as often as you like: it goes on where it was. With tokens configured set OMS_TOKEN (role
// `read`). An offset is committed after the state is saved, so a crash repeats and never skips; repeats are known by
// their versions. Whatever the broker forgot is had from the feed, which is read on each joining of the group and
// every minute, and where a version is missing from the stream at once.

import { parseArgs } from 'node:util'
import kafkajs, { type EachBatchPayload, type KafkaMessage } from 'kafkajs'
import * as lz4 from 'lz4js'
import { Api, type OmsEvent, type Reference } from './api.js'
import { State } from './state.js'

const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = kafkajs

const { values: options } = parseArgs({
  options: {
    api: { type: 'string', default: 'http://127.0.0.1:8000' },
    kafka: { type: 'string' },
    state: { type: 'string', default: 'copy.json' },
    prefix: { type: 'string', default: 'oms' },
    group: { type: 'string', default: 'copy' },
    // How often the feed is read to its end, in seconds; 0: never, then only missing versions are noticed.
    sweep: { type: 'string', default: '60' },
  },
})
if (!options.kafka) throw new Error('--kafka HOST:PORT')

const sweep = Number(options.sweep) * 1000

// The service compresses only if `kafka.options` asks for it; kafkajs brings gzip alone.
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: () => Promise.reject(new Error('a consumer does not compress')),
  decompress: (frame: Buffer) => Promise.resolve(Buffer.from(lz4.decompress(frame))),
})

const api = new Api(options.api)
const state = new State(options.state)
const say = (event: string, more: object = {}) => console.log(JSON.stringify({ event, ...more }))

// One thing at a time changes the state.
let last: Promise<void> = Promise.resolve()
function inTurn(work: () => Promise<void>): Promise<void> {
  const turn = last.then(work)
  last = turn.catch(() => undefined)
  return turn
}

/** Takes in one event, if it is new. What lies between it and the last one is read first. */
async function apply(event: OmsEvent): Promise<number> {
  const known = state.version(event.subject)
  const version = event.streamversion
  if (version <= known) return 0
  const missing = version > known + 1 ? await api.stream(event, known + 1, version - 1) : []
  if (missing.length > 0) {
    say('gap', { stream: event.subject, first: known + 1, last: version - 1, source: 'API' })
  }
  for (const each of [...missing, event]) state.apply(each)
  return missing.length + 1
}

/** Reads the feed to its end. */
async function catchUp(): Promise<void> {
  if (!sweep) return
  let applied = 0
  for (;;) {
    const page = await api.feed(state.cursor)
    if (page.items.length === 0) break
    for (const event of page.items) applied += await apply(event)
    state.cursor = page.next_cursor
    state.save()
  }
  say('swept', { applied })
}

/** The event of a message: its value, or what the reference in its place leads to. */
async function eventOf(message: KafkaMessage): Promise<OmsEvent> {
  const value: unknown = JSON.parse(String(message.value))
  if (String(message.headers?.claim_check) !== 'true') return value as OmsEvent
  const reference = value as Reference
  say('reference', { id: reference.event_id, source: 'API' })
  return api.referred(reference)
}

async function take({ batch, resolveOffset, heartbeat, commitOffsetsIfNecessary }: EachBatchPayload): Promise<void> {
  for (const message of batch.messages) {
    const event = await eventOf(message)
    const count = await apply(event)
    if (count > 0) say('applied', { stream: event.subject, version: event.streamversion, count })
    resolveOffset(message.offset)
    await heartbeat()
  }
  state.save()
  const next = (BigInt(batch.lastOffset()) + 1n).toString()
  await commitOffsetsIfNecessary({
    topics: [{ topic: batch.topic, partitions: [{ partition: batch.partition, offset: next }] }],
  })
}

const kafka = new Kafka({
  brokers: [options.kafka],
  clientId: 'oms-copy',
  logLevel: logLevel.NOTHING,
  retry: { retries: 20, maxRetryTime: 5_000 },
})
const consumer = kafka.consumer({ groupId: options.group, sessionTimeout: 10_000 })
const ending = (error: unknown) => {
  console.error(error)
  process.exit(1)
}
// A group that is joined anew may have lost its offsets, and the broker its messages.
consumer.on(consumer.events.GROUP_JOIN, () => void inTurn(catchUp).catch(ending))
consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || ending(payload.error))
await inTurn(catchUp)
await consumer.connect()
const topics = ['database', 'class', 'instance', 'stream'].map((kind) => `${options.prefix}.${kind}`)
await consumer.subscribe({ topics, fromBeginning: true })
await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: (batch) => inTurn(() => take(batch)) })
if (sweep) setInterval(() => void inTurn(catchUp).catch(ending), sweep)
