// What a consumer needs of the HTTP API.

/** An event as the feed, a stream and Kafka carry it. */
export interface OmsEvent {
  id: string
  type: string
  subject: string
  streamtype: string
  streamid: string
  streamversion: number
  data: unknown
}

export interface Page {
  items: OmsEvent[]
  next_cursor: string | null
}

/** The value of a message whose event is too large for the broker. */
export interface Reference {
  event_id: string
  href: string
  length: number
  sha256: string
}

/** How long an API that does not answer is asked again, in milliseconds. */
const PATIENCE = 120_000

export class Api {
  constructor(private readonly base: string) {}

  /** Asks until it is answered: reading twice does no harm. */
  private async get(path: string): Promise<Page> {
    const token = process.env.OMS_TOKEN
    const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {}
    const deadline = Date.now() + PATIENCE
    for (;;) {
      let failure: string
      try {
        const answer = await fetch(this.base + path, { headers, signal: AbortSignal.timeout(30_000) })
        if (answer.ok) return (await answer.json()) as Page
        failure = `${path}: ${answer.status} ${await answer.text()}`
        if (answer.status !== 429 && answer.status !== 503) throw new Error(failure)
      } catch (error) {
        // What `fetch` itself throws is that there was no answer.
        if (!(error instanceof TypeError) && !(error instanceof DOMException)) throw error
        failure = `${path}: ${error.message}`
      }
      if (Date.now() > deadline) throw new Error(failure)
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
  }

  /** A page of every event, from a cursor on. */
  feed(after: string | undefined): Promise<Page> {
    return this.get(`/api/v1/events?limit=1000${after ? `&after=${encodeURIComponent(after)}` : ''}`)
  }

  /** Versions `first` to `last` of the stream that this event belongs to. */
  async stream(event: OmsEvent, first: number, last: number): Promise<OmsEvent[]> {
    // Its id is percent-encoded components; in the path it is one segment.
    const id = encodeURIComponent(event.streamid.split('/').map(decodeURIComponent).join('/'))
    const found: OmsEvent[] = []
    while (first + found.length <= last) {
      const from = first + found.length
      const limit = Math.min(last - from + 1, 1000)
      const path = `/api/v1/streams/${event.streamtype}/${id}/events?from_version=${from}&limit=${limit}`
      const { items } = await this.get(path)
      if (items.length === 0) break
      found.push(...items)
    }
    return found
  }

  /** The event that a reference stands for. */
  async referred(reference: Reference): Promise<OmsEvent> {
    const [event] = (await this.get(reference.href)).items
    if (event?.id !== reference.event_id) throw new Error(`${reference.href} is not event ${reference.event_id}`)
    return event
  }
}
