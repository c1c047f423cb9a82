import { PolledTrust, type BusStatus, type InvalidationBus } from '@orientor/session-cache/core'
import { systemClock, type SessionKeyHash, type UserChange } from '@orientor/session-contract'
import pg from 'pg'
import { notifyTriggersSql, notifyVersion } from './notify-triggers.js'

/** The times of a bus that listens, in milliseconds. */
export interface NotifyTimes {
  readonly maxStalenessMs: number
  readonly heartbeatTimeoutMs: number
}

const heartbeatIntervalMs = 400

/**
 * A bus as the release before had it, in short: triggers notify inside the writing transaction, one direct connection
 * of each instance listens, and a heartbeat that comes back through the same queue proves its instant of sending. An
 * upgrade is tried with it, so it installs the triggers under the names that they had, and connects under the name by
 * which a newer release finds out that they are still needed. What it leaves out is what is not tried here: whether
 * the triggers are intact.
 */
export function notifyBus (url: string, times: NotifyTimes): InvalidationBus {
  return new NotifyBus(url, times)
}

interface Line {
  readonly client: pg.Client
  readonly number: number
  readonly echoes: Map<string, () => void>
}

class NotifyBus implements InvalidationBus {
  readonly name = 'notify'
  readonly hearsWrites = true
  readonly trust: PolledTrust
  readonly leaseMs: number
  readonly #url: string
  readonly #timeoutMs: number
  readonly #listeners = new Set<(change: UserChange) => void>()
  readonly #trustListeners = new Set<(status: BusStatus) => void>()
  #line: Line | null = null
  #lines = 0
  #beats = 0
  #known: (() => void) | null = null

  constructor (url: string, { maxStalenessMs, heartbeatTimeoutMs }: NotifyTimes) {
    this.#url = url
    this.#timeoutMs = heartbeatTimeoutMs
    this.leaseMs = heartbeatIntervalMs + heartbeatTimeoutMs
    this.trust = new PolledTrust({
      clock: systemClock,
      pollIntervalMs: heartbeatIntervalMs,
      pollTimeoutMs: heartbeatTimeoutMs,
      maxStalenessMs,
      ask: async () => await this.#beat(),
      apply: () => {},
      changed: () => {
        this.#known?.()
        for (const listener of this.#trustListeners) listener(this.status())
      }
    })
  }

  async start (): Promise<void> {
    const client = await this.#connect()
    await client.query(notifyTriggersSql)
    await client.end()
    await new Promise<void>(resolve => {
      this.#known = resolve
      this.trust.start()
    })
  }

  subscribe (listener: (change: UserChange) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  onTrust (listener: (status: BusStatus) => void): () => void {
    this.#trustListeners.add(listener)
    return () => { this.#trustListeners.delete(listener) }
  }

  async publish (): Promise<void> {
    throw new Error('Changes are made with SQL here')
  }

  status (): BusStatus {
    const { phase, reason } = this.trust.state
    return { trusted: phase === 'trusted', reason, instances: null }
  }

  async close (): Promise<void> {
    this.trust.close()
    await this.#line?.client.end().catch(() => {})
  }

  async #beat (): ReturnType<ConstructorParameters<typeof PolledTrust>[0]['ask']> {
    const line = this.#line ??= await this.#listen()
    const number = String(++this.#beats)
    try {
      const echoed = new Promise<void>(resolve => { line.echoes.set(number, resolve) })
      await line.client.query('SELECT pg_notify($1, $2)', [`orientor_line_${process.pid}`, number])
      await echoed
    } catch (error) {
      this.#leave(line)
      throw error
    }
    return { position: number, changes: [], gap: null, finding: { signature: String(line.number) }, marks: null }
  }

  async #listen (): Promise<Line> {
    const client = await this.#connect()
    const line = { client, number: ++this.#lines, echoes: new Map<string, () => void>() }
    client.on('notification', ({ channel, payload = '' }) => {
      if (this.#line !== line) return
      if (channel !== 'orientor_user') line.echoes.get(payload)?.()
      else for (const listener of this.#listeners) listener(changeOf(payload))
    })
    client.on('end', () => { this.#leave(line) })
    this.#line = line
    await client.query(`LISTEN orientor_user; LISTEN orientor_line_${process.pid}`)
    return line
  }

  async #connect (): Promise<pg.Client> {
    const client = new pg.Client({
      connectionString: this.#url,
      application_name: `orientor/${notifyVersion}`,
      connectionTimeoutMillis: this.#timeoutMs,
      query_timeout: this.#timeoutMs
    })
    client.on('error', () => {})
    await client.connect()
    return client
  }

  #leave (line: Line): void {
    if (this.#line === line) this.#line = null
    line.client.end().catch(() => {})
  }
}

function changeOf (payload: string): UserChange {
  if (payload === '*') return { kind: 'all' }
  const [keyHash, revision] = payload.split(' ')
  return {
    kind: 'user', keyHash: keyHash as SessionKeyHash, revision: revision === undefined ? null : Number(revision)
  }
}
