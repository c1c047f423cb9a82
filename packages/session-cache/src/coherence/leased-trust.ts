import type { Clock, Timer } from '@orientor/session-contract/core'
import { UnusableConnection } from './unusable-connection.js'
import type { LeaseTimes } from './lease-times.js'
import type { Instant, Trust } from './trust.js'

/** One connection that brings announcements, as the lease commands it. */
export interface Line {
  /** Begins to connect, and to report. */
  open (): void
  /** Sends heartbeat `n` into the stream of announcements. */
  beat (n: number): void
  /** Calls back when everything that had arrived by now has been read. */
  whenRead (callback: () => void): void
  /** Destroys the connection at once, without a farewell; reports nothing any more. */
  cut (): void
}

/** What the server said about the announcements when it took a heartbeat. */
export type Finding =
  /** What announces is in order. `signature` changes whenever any of it was absent, however briefly. */
  | { readonly signature: string }
  /** What announces is not in order, so that changes may go unannounced. */
  | { readonly flaw: string }

/** What a line reports. Reports of a line that was cut, or went down, are ignored. */
export interface LineReports {
  /** It listens: whatever is committed from now on and announced will be heard. */
  up (): void
  /** Heartbeat `n` came back, after every announcement that was committed before it was sent. */
  echo (n: number): void
  /** The server has taken heartbeat `n`, and looked at what announces after it was sent. */
  taken (n: number, finding: Finding): void
  /** It is gone. `retryAfterMs`: when another attempt makes sense; left out: soon, with growing pauses. */
  down (reason: string, retryAfterMs?: number): void
}

/** What a lease is made of. */
export interface LeaseParts extends LeaseTimes {
  readonly clock: Clock
  /** From 0 to below 1, for the pauses between connections. */
  readonly random: () => number
  /** Makes a line, which is opened next. What it throws is a failed attempt. */
  readonly dial: (reports: LineReports) => Line
  /** Told after each change of state. */
  readonly changed?: (state: LeaseState) => void
}

/** How a lease stands. */
export interface LeaseState {
  readonly phase: 'idle' | 'connecting' | 'proving' | 'trusted' | 'doubtful' | 'waiting' | 'closed'
  /** One plain sentence. */
  readonly reason: string
}

interface Beat {
  readonly n: number
  readonly sentAtMs: number
  readonly sentWallMs: number
  echoed: boolean
  finding: Finding | null
}

const shortestPauseMs = 50
const longestPauseMs = 2000
const rememberedEpochs = 64

/**
 * Trust that has to be renewed all the time. A heartbeat travels through the same queue as the announcements, so its echo proves that
 * everything committed before it was sent has been announced and applied, provided that what announces was in order all the while: the
 * finding must bear the signature that began the epoch. Without an echo in time the line is cut and another is dialled, for ever.
 *
 * An epoch begins with the first finding in order on a line or after a flaw, and with each whose signature differs from the one before. It proves nothing by
 * itself, because nobody knows what was announced before that finding; the next heartbeat does.
 */
export class LeasedTrust implements Trust {
  readonly maxStalenessMs: number
  readonly #parts: LeaseParts
  readonly #ended = new Map<number, Instant>()
  #epoch = 0
  #provenAtMs = -Infinity
  #provenWallMs = -Infinity
  #state: LeaseState = { phase: 'idle', reason: 'Not started' }
  #line: Line | null = null
  #beat: Beat | null = null
  #beats = 0
  #signature: string | null = null
  #isHurried = false
  #failures = 0
  #pulse: Timer | null = null
  #silence: Timer | null = null

  constructor (parts: LeaseParts) {
    this.#parts = parts
    this.maxStalenessMs = parts.maxStalenessMs
  }

  get epoch (): number {
    return this.#epoch
  }

  get provenAtMs (): number {
    return this.#provenAtMs
  }

  get provenWallMs (): number {
    return this.#provenWallMs
  }

  get state (): LeaseState {
    return this.#state
  }

  /** Heartbeats sent so far. */
  get beats (): number {
    return this.#beats
  }

  lastProofOf (epoch: number): Instant | null {
    if (epoch === this.#epoch) return this.#provenAtMs === -Infinity ? null : { monotonicMs: this.#provenAtMs, wallMs: this.#provenWallMs }
    return this.#ended.get(epoch) ?? null
  }

  /** Begins. Again does nothing. */
  start (): void {
    if (this.#state.phase === 'idle') this.#dial()
  }

  /** Sends a heartbeat now, unless one is on its way: what was amiss may have been mended. */
  hurry (): void {
    if (this.#line === null || this.#beat !== null || this.#state.phase === 'connecting') return
    this.#pulse?.cancel()
    this.#send()
  }

  /** Cuts the line and dials no more. What was proven stays proven, and grows old. */
  close (): void {
    this.#hangUp()
    this.#become('closed', 'Closed')
  }

  #dial (): void {
    let line: Line | null = null
    const isCurrent = (): boolean => line !== null && this.#line === line
    try {
      line = this.#parts.dial({
        up: () => { if (isCurrent()) this.#listen() },
        echo: n => { if (isCurrent()) this.#hear(n) },
        taken: (n, finding) => { if (isCurrent()) this.#note(n, finding) },
        down: (reason, retryAfterMs) => { if (isCurrent()) this.#lose(reason, retryAfterMs) }
      })
    } catch (error) {
      // Nothing that it has to read, such as the file of a certificate, may end the process: it may be there the next time.
      this.#lose(error instanceof UnusableConnection ? error.message : 'A connection could not be prepared')
      return
    }
    this.#line = line
    this.#become('connecting', 'Connecting')
    this.#awaitSign(`No connection within ${this.#parts.heartbeatTimeoutMs} ms`)
    line.open()
  }

  #listen (): void {
    this.#signature = null
    this.#isHurried = false
    this.#become('proving', 'Connected, and nothing is proven yet')
    this.#send()
  }

  #send (): void {
    const { clock, heartbeatTimeoutMs } = this.#parts
    const n = ++this.#beats
    this.#beat = { n, sentAtMs: clock.monotonic(), sentWallMs: clock.now(), echoed: false, finding: null }
    this.#awaitSign(`A heartbeat did not come back within ${heartbeatTimeoutMs} ms`)
    this.#line?.beat(n)
  }

  #hear (n: number): void {
    if (this.#beat?.n !== n) return
    this.#beat.echoed = true
    this.#conclude(this.#beat)
  }

  #note (n: number, finding: Finding): void {
    if (this.#beat?.n !== n) return
    this.#beat.finding = finding
    this.#conclude(this.#beat)
  }

  #conclude (beat: Beat): void {
    if (!beat.echoed || beat.finding === null) return
    this.#beat = null
    this.#silence?.cancel()
    if ('flaw' in beat.finding) {
      // While it was there changes may have gone unannounced, whatever the next finding looks like.
      this.#signature = null
      this.#pause(beat)
      this.#become('doubtful', beat.finding.flaw)
    } else if (beat.finding.signature !== this.#signature) {
      this.#signature = beat.finding.signature
      this.#beginEpoch()
      this.#become('proving', 'What announces changes has just been found in order')
      // The proof of the new epoch is one heartbeat away; but what changes all the time is not asked in a loop.
      if (this.#isHurried) this.#pause(beat)
      else this.#send()
      this.#isHurried = true
    } else {
      this.#provenAtMs = beat.sentAtMs
      this.#provenWallMs = beat.sentWallMs
      this.#isHurried = false
      this.#failures = 0
      this.#pause(beat)
      this.#become('trusted', 'Every change is announced')
    }
  }

  #beginEpoch (): void {
    const last = this.lastProofOf(this.#epoch)
    if (last !== null) this.#ended.set(this.#epoch, last)
    this.#epoch++
    this.#provenAtMs = -Infinity
    this.#provenWallMs = -Infinity
    if (this.#ended.size > rememberedEpochs) this.#ended.delete(this.#ended.keys().next().value!)
  }

  #pause (beat: Beat): void {
    const { clock, heartbeatIntervalMs } = this.#parts
    this.#pulse = clock.setTimer(() => { this.#send() }, Math.max(0, beat.sentAtMs + heartbeatIntervalMs - clock.monotonic()))
  }

  #awaitSign (reason: string): void {
    this.#silence?.cancel()
    this.#silence = this.#parts.clock.setTimer(() => {
      const { beats: beat } = this
      const line = this.#line
      if (line === null) return
      // After a stall of the event loop the timer is due before the socket was read, and the sign may lie there.
      line.whenRead(() => {
        if (this.#line !== line || this.#beats !== beat || (this.#beat === null && this.#state.phase !== 'connecting')) return
        this.#lose(reason)
      })
    }, this.#parts.heartbeatTimeoutMs)
  }

  #lose (reason: string, retryAfterMs?: number): void {
    this.#hangUp()
    const { clock, random } = this.#parts
    const mostMs = Math.min(longestPauseMs, 2 * shortestPauseMs * 2 ** Math.min(this.#failures, 10))
    this.#failures++
    this.#pulse = clock.setTimer(() => { this.#dial() }, retryAfterMs ?? shortestPauseMs + random() * (mostMs - shortestPauseMs))
    this.#become('waiting', reason)
  }

  #hangUp (): void {
    this.#pulse?.cancel()
    this.#silence?.cancel()
    this.#beat = null
    const line = this.#line
    this.#line = null
    line?.cut()
  }

  #become (phase: LeaseState['phase'], reason: string): void {
    this.#state = Object.freeze({ phase, reason })
    this.#parts.changed?.(this.#state)
  }
}
