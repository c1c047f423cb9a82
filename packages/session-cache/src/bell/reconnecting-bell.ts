import { startDeadline, withinDeadline, type Clock, type Timer } from '@orientor/session-contract/core'
import type { BusNews } from '../coherence/invalidation-bus.js'
import { errors } from '../errors.js'
import type { Bell, BellStart, BellStatus } from './bell.js'
import { maxRingBytes } from './ring-message.js'

/** One connection of a bell, from its making to its end. After it was lost, another is made. */
export interface BellConnection {
  /** Connects and begins to hear. Resolves with what an operator has to know of it, in one sentence; null: nothing. */
  open (): Promise<string | null>
  ring (message: string): Promise<void>
  /** Resolves when the other side has answered. */
  check (): Promise<void>
  /** Ends the connection in order; resolves when the other side has closed. */
  close (): Promise<void>
  /** Ends at once; calls that wait for an answer reject. */
  cut (): void
}

/** The callbacks by which a connection reports to its bell. */
export interface ConnectionReports {
  readonly heard: (message: string) => void
  /** The connection is lost. Again, or after cut(), does nothing. */
  readonly down: (error: unknown) => void
}

/** The dependencies of a bell that reconnects, and its times in milliseconds. */
export interface ReconnectingBellDeps {
  readonly name: string
  /** Runs once, before the first connection; rejects when there can never be one. */
  readonly prepare?: () => Promise<void>
  readonly connect: (reports: ConnectionReports) => BellConnection
  /** Puts an error into words that hold no secret: one sentence without a full stop. */
  readonly reasonOf: (error: unknown) => string
  /** The time between two questions to the other side for a sign of life. */
  readonly checkIntervalMs: number
  /** The time that a connection, or a sign of life, may take. */
  readonly timeoutMs: number
  readonly clock: Clock
  /** From 0 to below 1, for the pauses between connections. */
  readonly random: () => number
}

const shortestPauseMs = 50
const longestPauseMs = 2000
const closeTimeoutMs = 500
/**
 * Rings that wait for an answer at once; those beyond are refused, so that memory is bounded where the other side is
 * slow.
 */
const maxPendingRings = 64

/**
 * A bell over one connection at a time, which is made anew after 50 ms to 2 s at random whenever it is lost: closed,
 * refused, or silent for `timeoutMs` when asked for a sign of life. The pause grows with each connection that did not
 * live long enough to answer such a question.
 */
export class ReconnectingBell implements Bell {
  readonly name: string
  readonly #deps: ReconnectingBellDeps
  readonly #told = new Set<string>()
  #started: BellStart | null = null
  #status: BellStatus = { connected: false, reason: 'Not started' }
  #connection: BellConnection | null = null
  #isClosed = false
  #wasConnected: boolean | null = null
  #failures = 0
  #pendingRings = 0
  #known: (() => void) | null = null
  /** The next connection, or the next check. */
  #next: Timer | null = null
  #silence: Timer | null = null

  constructor (deps: ReconnectingBellDeps) {
    this.name = deps.name
    this.#deps = deps
  }

  async start (start: BellStart): Promise<void> {
    if (this.#started !== null || this.#isClosed) return
    this.#started = start
    await this.#deps.prepare?.()
    if (this.#isClosed) return
    await new Promise<void>(resolve => {
      this.#known = resolve
      this.#connect()
    })
  }

  async ring (message: string): Promise<void> {
    if (message.length > maxRingBytes) {
      throw new RangeError(`A ring has at most ${maxRingBytes} bytes; received ${message.length}. Use messagesOf()`)
    }
    const connection = this.#connection
    const isReady = connection !== null && this.#status.connected
    if (!isReady || this.#pendingRings >= maxPendingRings) throw new errors.BellUnavailable()
    this.#pendingRings++
    try {
      await connection.ring(message)
    } catch (cause) {
      throw new errors.BellUnavailable({ cause })
    } finally {
      this.#pendingRings--
    }
  }

  status (): BellStatus {
    return this.#status
  }

  async close (): Promise<void> {
    const connection = this.#connection
    const wasConnected = this.#status.connected
    this.#isClosed = true
    this.#forget()
    this.#become(false, 'Closed')
    this.#known?.()
    if (connection === null) return
    if (wasConnected) {
      const deadline = startDeadline(this.#deps.clock, closeTimeoutMs)
      await withinDeadline(connection.close(), deadline, 'The other side').catch(() => {})
      deadline.release()
    }
    connection.cut()
  }

  #connect (): void {
    const { connect, clock, timeoutMs } = this.#deps
    let connection: BellConnection | null = null
    const isCurrent = (): boolean => connection !== null && this.#connection === connection
    const lose = (error: unknown): void => { if (isCurrent()) this.#lose(this.#deps.reasonOf(error)) }
    try {
      connection = connect({ heard: message => { if (isCurrent()) this.#hear(message) }, down: lose })
    } catch (error) {
      this.#lose(this.#deps.reasonOf(error))
      return
    }
    this.#connection = connection
    this.#silence = clock.setTimer(() => { this.#lose(`No connection within ${timeoutMs} ms`) }, timeoutMs)
    connection.open().then(advice => { if (isCurrent()) this.#welcome(connection!, advice, lose) }).catch(lose)
  }

  #welcome (connection: BellConnection, advice: string | null, lose: (error: unknown) => void): void {
    this.#silence?.cancel()
    this.#become(true, advice ?? 'Connected')
    if (this.#wasConnected !== true) this.#report('info', 'connected')
    this.#wasConnected = true
    if (advice !== null) this.#warnOnce(advice)
    this.#known?.()
    this.#checkLater(connection, lose)
  }

  #checkLater (connection: BellConnection, lose: (error: unknown) => void): void {
    const { clock, checkIntervalMs, timeoutMs } = this.#deps
    this.#next = clock.setTimer(() => {
      this.#silence = clock.setTimer(() => {
        this.#lose(`No answer within ${timeoutMs} ms: the connection is silent`)
      }, timeoutMs)
      connection.check().then(() => {
        if (this.#connection !== connection) return
        this.#silence?.cancel()
        this.#failures = 0
        this.#checkLater(connection, lose)
      }).catch(lose)
    }, checkIntervalMs)
  }

  #hear (message: string): void {
    if (message.length > maxRingBytes) return
    try {
      this.#started?.heard(message)
    } catch {
      // Thrown into the driver it would end the process.
      this.#warnOnce('what hears it has failed; the ring counts as lost')
    }
  }

  #lose (reason: string): void {
    const { clock, random } = this.#deps
    const connection = this.#connection
    this.#forget()
    connection?.cut()
    const mostMs = Math.min(longestPauseMs, 2 * shortestPauseMs * 2 ** Math.min(this.#failures, 10))
    this.#failures++
    this.#next = clock.setTimer(() => { this.#connect() }, shortestPauseMs + random() * (mostMs - shortestPauseMs))
    this.#become(false, reason)
    if (this.#wasConnected !== false) {
      this.#report('warn', `not connected. ${reason}. Until it is back, changes are seen by polling only, which is ` +
        'as safe and not as fast')
    }
    this.#wasConnected = false
    this.#known?.()
  }

  #forget (): void {
    this.#next?.cancel()
    this.#silence?.cancel()
    this.#connection = null
  }

  #become (connected: boolean, reason: string): void {
    this.#status = Object.freeze({ connected, reason })
  }

  #warnOnce (message: string): void {
    if (this.#told.has(message)) return
    this.#told.add(message)
    this.#report('warn', message)
  }

  #report (level: BusNews['level'], message: string): void {
    this.#started?.report({ level, message: `session bell (${this.name}): ${message}` })
  }
}
