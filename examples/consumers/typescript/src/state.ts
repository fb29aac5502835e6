// What the consumer has made of the events: the newest state of each stream, and how far it has read the feed. In one
// file, which is replaced as a whole: a crash leaves the old one or the new one.

import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import type { OmsEvent } from './api.js'

export interface Stream {
  type: string
  version: number
  alive: boolean
  data: unknown
  /** The stream of what it belongs to, and that one's incarnation: the version of the event that created it. */
  parent?: string
  incarnation?: number
  parentIncarnation?: number
}

interface Content {
  cursor?: string
  streams: Record<string, Stream>
}

const PARENTS: Record<string, string> = { class: 'database', instance: 'class' }
const OURS = ['database', 'class', 'instance']

function member(data: unknown, name: string): unknown {
  return typeof data === 'object' && data !== null ? (data as Record<string, unknown>)[name] : undefined
}

export class State {
  private readonly content: Content

  constructor(private readonly file: string) {
    this.content = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Content) : { streams: {} }
  }

  get cursor(): string | undefined {
    return this.content.cursor
  }

  set cursor(cursor: string | null) {
    if (cursor !== null) this.content.cursor = cursor
  }

  version(stream: string): number {
    return this.content.streams[stream]?.version ?? 0
  }

  /** Takes in the next event of a stream. */
  apply(event: OmsEvent): void {
    const { subject, streamversion: version, streamtype: kind, data } = event
    if (version !== this.version(subject) + 1) {
      throw new Error(`${subject}: version ${version} does not follow ${this.version(subject)}`)
    }
    const ours = OURS.includes(kind)
    const content = kind === 'instance' ? member(data, 'data') : kind === 'class' ? member(data, 'definition') : data
    const stream: Stream = { alive: true, ...this.content.streams[subject], type: kind, version, data: content }
    if (ours && event.type.endsWith('Created')) {
      stream.alive = true
      stream.incarnation = version
      const parent = PARENTS[kind]
      if (parent) {
        stream.parent = `${parent}/${event.streamid.slice(0, event.streamid.lastIndexOf('/'))}`
        stream.parentIncarnation = Number(member(data, `${parent}_incarnation`))
      }
    }
    if (ours && event.type.endsWith('Deleted')) stream.alive = false
    this.content.streams[subject] = stream
  }

  /** Whether it is there: `ClassDeleted` ends the instances of a class without an event for each. */
  isThere(subject: string): boolean {
    const stream = this.content.streams[subject]
    if (!stream?.alive) return false
    if (!stream.parent) return true
    const parent = this.content.streams[stream.parent]
    return parent?.incarnation === stream.parentIncarnation && this.isThere(stream.parent)
  }

  save(): void {
    const draft = `${this.file}.draft`
    const file = openSync(draft, 'w', 0o600)
    writeSync(file, JSON.stringify(this.content))
    fsyncSync(file)
    closeSync(file)
    renameSync(draft, this.file)
  }
}
