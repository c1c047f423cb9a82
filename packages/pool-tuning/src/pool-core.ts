import type { Clock, Timer } from '@orientor/session-contract/core'
import { errors } from './errors.js'
import type { ReleaseVerdict } from './release-verdict.js'

/** A connection as the core sees it: what it can be told, and what it tells. */
export interface PooledConnection {
  /** Whether the server has answered everything that was sent. */
  readonly settled: boolean
  /** I: idle, T: in a transaction, E: in a failed one, null: not known (PostgreSQL, protocol message ReadyForQuery). */
  readonly transactionStatus: 'I' | 'T' | 'E' | null
  /** Calls back once everything is answered. */
  settle (done: () => void): void
  /** The cheapest round trip. */
  ping (): Promise<unknown>
  /** Leaves the transaction and, where so configured, the session state of the last user. */
  reset (): Promise<unknown>
  /** Says goodbye and cuts the socket when that takes long. */
  close (): void
  /** Cuts the socket now. */
  destroy (): void
}

/** One place of the pool and the connection in it. */
export interface Member<C extends PooledConnection> {
  readonly connection: C
  readonly bornAtMs: number
  readonly retireAtMs: number
  state: 'idle' | 'lent' | 'checking' | 'resetting' | 'gone'
  /** When the server last proved that it was there. */
  provenAtMs: number
}

/** All durations in milliseconds. */
export interface PoolCoreOptions {
  readonly size: number
  readonly overflow: number
  readonly timeoutMs: number
  readonly connectTimeoutMs: number
  readonly recycleMs: number
  readonly pingAfterIdleMs: number
  readonly pingTimeoutMs: number
  readonly resetTimeoutMs: number
  readonly overflowIdleMs: number
  readonly minConnections: number
  readonly connectRamp: number
  /** Whether every return needs `reset()`, not only one that comes with an open transaction. */
  readonly alwaysReset: boolean
}

/** What the core needs from outside. */
export interface PoolCorePorts<C extends PooledConnection> {
  readonly clock: Clock
  /** From 0 to 1. */
  readonly random: () => number
  /** Opens a connection; `lost` is to be called once when it dies by itself. Must reject, and cut the socket, when the signal aborts. */
  readonly open: (lost: (connection: C) => void, signal: AbortSignal) => Promise<C>
  readonly onOpen?: (connection: C) => void
  readonly onGone?: (connection: C, reason: GoneReason) => void
}

export type GoneReason = 'lost' | 'recycled' | 'overflow' | 'ping' | 'reset' | 'verdict' | 'suspect' | 'drain'

/** Who waits for a connection. */
export interface Acquisition {
  /** On the monotonic clock; capped by the pool's own timeout. */
  readonly atMs?: number
  readonly signal?: AbortSignal
}

type Answer<C extends PooledConnection> = (error: Error | null, member: Member<C> | null) => void
interface Waiter<C extends PooledConnection> { readonly answer: Answer<C>, readonly sinceMs: number, settle: () => void }

/** Counters since the start, and the picture of now. */
export interface PoolStats {
  readonly total: number
  readonly idle: number
  readonly lent: number
  readonly waiting: number
  readonly opening: number
  readonly checkouts: number
  /** Checkouts served at once by an idle connection. */
  readonly immediateCheckouts: number
  readonly timeouts: number
  readonly opened: number
  readonly openFailures: number
  readonly lost: number
  readonly recycled: number
  readonly failedPings: number
  readonly resets: number
  readonly waitedMs: number
}

/** Part of the lifetime by which connections of one age are spread: 8 never come closer than 1 % of the lifetime. */
const recycleSpread = 0.25
/** Multiples of the golden ratio fill the unit interval evenly, however many are taken. */
const goldenRatio = 0.618_033_988_749_894_9
const ceilingLowMs = 1000
const backoffMs = { first: 50, most: 1000 }

/**
 * Lends connections: `size` kept, `overflow` more while there is need, waiters in order. Pure: time, chance and connections come from outside.
 *
 * A connection is lent only when it is proven: answered, out of any transaction, not older than `recycleMs`, and pinged after `pingAfterIdleMs`
 * idle. One that falls silent takes the trust of all that are as old with it. A place is free the moment its connection is given up,
 * whatever its socket does, and a waiter is served by whatever comes first: a return, a new connection, a ping.
 */
export class PoolCore<C extends PooledConnection> {
  readonly #options: PoolCoreOptions
  readonly #ports: PoolCorePorts<C>
  readonly #members = new Set<Member<C>>()
  readonly #byConnection = new Map<C, Member<C>>()
  readonly #idle: Array<Member<C>> = []
  readonly #waiters: Array<Waiter<C>> = []
  readonly #openings = new Set<AbortController>()
  readonly #phase: number
  #checking = 0
  #births = 0
  #suspectBeforeMs = -Infinity
  #demotedAtMs = -Infinity
  #ceilingUntilMs = -Infinity
  #failuresInARow = 0
  #quietUntilMs = -Infinity
  #lastOpenError: Error | null = null
  #tick: Timer | null = null
  #draining = false
  #drained: (() => void) | null = null
  #started = false
  #counts = { checkouts: 0, immediateCheckouts: 0, timeouts: 0, opened: 0, openFailures: 0, lost: 0, recycled: 0, failedPings: 0, resets: 0, waitedMs: 0 }

  constructor (options: PoolCoreOptions, ports: PoolCorePorts<C>) {
    this.#options = options
    this.#ports = ports
    this.#phase = ports.random()
  }

  get limit (): number {
    return this.#options.size + this.#options.overflow
  }

  /** Why the last connection could not be opened; null once one could. */
  get lastOpenError (): Error | null {
    return this.#lastOpenError
  }

  stats (): PoolStats {
    const idle = this.#idle.length
    return Object.freeze({ total: this.#members.size, idle, lent: this.#lentCount(), waiting: this.#waiters.length, opening: this.#openings.size, ...this.#counts })
  }

  /** Opens the connections that are always kept, and keeps them from now on. */
  start (): void {
    this.#started = true
    this.#keepMinimum()
  }

  /** A proven idle connection, at once; null when there is none (then `acquire`). */
  tryAcquire (): Member<C> | null {
    const member = this.#idle.at(-1)
    if (member === undefined || this.#draining || !this.#fresh(member, this.#ports.clock.monotonic())) return null
    this.#idle.pop()
    member.state = 'lent'
    this.#counts.checkouts++
    this.#counts.immediateCheckouts++
    return member
  }

  /** Answers once: a connection, or an error at the deadline at the latest. */
  acquire (request: Acquisition, answer: Answer<C>): void {
    if (this.#draining) {
      answer(new errors.Closed(), null)
      return
    }
    const member = this.tryAcquire()
    if (member !== null) {
      answer(null, member)
      return
    }
    const now = this.#ports.clock.monotonic()
    const patienceMs = Math.max(0, Math.min(this.#options.timeoutMs, (request.atMs ?? Infinity) - now))
    const { signal } = request
    const give = (): void => { this.#giveUp(waiter, signal?.aborted === true ? signal.reason : null) }
    const timer = this.#ports.clock.setTimer(give, patienceMs)
    const waiter: Waiter<C> = {
      answer,
      sinceMs: now,
      settle: () => {
        timer.cancel()
        signal?.removeEventListener('abort', give)
      }
    }
    this.#waiters.push(waiter)
    if (signal?.aborted === true) give()
    else signal?.addEventListener('abort', give, { once: true })
    this.#serve()
  }

  /** Takes a lent connection back and judges it; false when it was not lent (any more). */
  release (member: Member<C>, verdict: ReleaseVerdict): boolean {
    if (member.state !== 'lent') return false
    if (verdict !== 'keep') {
      this.#discard(member, 'verdict')
      if (verdict === 'severed') this.#suspectBeforeMs = this.#ports.clock.monotonic()
      if (verdict === 'silent') this.#distrust()
      if (verdict === 'demoted') this.demote()
      this.#afterLoss()
      return true
    }
    const { connection } = member
    if (connection.settled) this.#returned(member)
    else {
      member.state = 'resetting'
      this.#within(this.#options.resetTimeoutMs, new Promise<void>(resolve => { connection.settle(resolve) }),
        () => { this.#returned(member) }, () => { this.#fail(member, 'reset') })
    }
    return true
  }

  /** Every connection is to be dialled again: those idle now, those lent when they come back. At most once a second, since a statement may lie. */
  demote (): void {
    const now = this.#ports.clock.monotonic()
    if (now - this.#demotedAtMs < 1000) return
    this.#demotedAtMs = now
    for (const member of this.#idle.splice(0)) this.#discard(member, 'suspect')
  }

  /** Stops lending, waits for what is lent at most so long, then cuts it. Resolves when nothing is left. */
  async drain (graceMs: number): Promise<void> {
    this.#draining = true
    this.#tick?.cancel()
    for (const opening of this.#openings) opening.abort(new errors.Closed())
    for (const waiter of this.#waiters.splice(0)) {
      waiter.settle()
      waiter.answer(new errors.Closed(), null)
    }
    for (const member of this.#idle.splice(0)) this.#discard(member, 'drain')
    if (this.#members.size === 0) return
    await new Promise<void>(resolve => {
      const timer = this.#ports.clock.setTimer(() => { this.cut() }, graceMs)
      this.#drained = () => {
        timer.cancel()
        resolve()
      }
    })
  }

  /** Cuts every connection, lent ones included: their statements fail now instead of hanging. */
  cut (): void {
    for (const member of [...this.#members]) this.#discard(member, 'drain', true)
    this.#idle.length = 0
    this.#afterLoss()
  }

  #lentCount (): number {
    let lent = 0
    for (const member of this.#members) if (member.state === 'lent') lent++
    return lent
  }

  #fresh (member: Member<C>, now: number): boolean {
    return now - member.provenAtMs < this.#options.pingAfterIdleMs && now < member.retireAtMs && member.provenAtMs >= this.#suspectBeforeMs
  }

  #serve (): void {
    if (this.#draining) return
    const now = this.#ports.clock.monotonic()
    while (this.#waiters.length > 0 && this.#idle.length > 0 && this.#fresh(this.#idle.at(-1)!, now)) this.#hand(this.#idle.pop()!)
    let unserved = this.#waiters.length - this.#checking - this.#openings.size
    while (unserved > 0 && this.#idle.length > 0) {
      const member = this.#idle.pop()!
      if (this.#expired(member)) continue
      this.#check(member)
      unserved--
    }
    for (; unserved > 0 && this.#mayOpen(); unserved--) this.#open()
  }

  #hand (member: Member<C>): void {
    const waiter = this.#waiters.shift()!
    member.state = 'lent'
    this.#counts.checkouts++
    this.#counts.waitedMs += this.#ports.clock.monotonic() - waiter.sinceMs
    waiter.settle()
    waiter.answer(null, member)
  }

  #giveUp (waiter: Waiter<C>, reason: unknown): void {
    const index = this.#waiters.indexOf(waiter)
    if (index < 0) return
    this.#waiters.splice(index, 1)
    waiter.settle()
    this.#counts.timeouts++
    const waited = Math.round(this.#ports.clock.monotonic() - waiter.sinceMs)
    const { total, lent, waiting, opening } = this.stats()
    const cause = this.#lastOpenError ?? reason
    const error = new errors.CheckoutTimeout(`No connection was to be had within ${waited} ms: ${lent} lent of ${total} open (at most ${this.limit}), ${opening} being opened, ${waiting} more waiting${
      this.#lastOpenError === null ? '. Lend connections for a shorter time, or raise size or overflow.' : '. The last attempt to connect failed; see the cause.'}`)
    waiter.answer(Object.assign(error, { databaseFailure: 'unsent', ...(cause === null ? {} : { cause }) }), null)
  }

  #check (member: Member<C>): void {
    member.state = 'checking'
    this.#checking++
    const askedAtMs = this.#ports.clock.monotonic()
    this.#within(this.#options.pingTimeoutMs, member.connection.ping(), () => {
      this.#checking--
      if (member.state !== 'checking') this.#serve()
      else this.#ready(member)
    }, timedOut => {
      this.#checking--
      this.#counts.failedPings++
      if (member.state === 'checking') this.#discard(member, 'ping', true)
      if (timedOut) this.#distrust(askedAtMs)
      else this.#suspectBeforeMs = Math.max(this.#suspectBeforeMs, askedAtMs)
      this.#afterLoss()
    })
  }

  /** After silence: idle connections that were not heard of since are given up (SQLAlchemy's rule for a failed pre-ping). */
  #distrust (sinceMs: number = this.#ports.clock.monotonic()): void {
    this.#suspectBeforeMs = Math.max(this.#suspectBeforeMs, sinceMs)
    for (const member of [...this.#idle]) {
      if (member.provenAtMs >= sinceMs) continue
      this.#idle.splice(this.#idle.indexOf(member), 1)
      this.#discard(member, 'suspect', true)
    }
  }

  #returned (member: Member<C>): void {
    if (member.state === 'gone') return
    if (member.connection.transactionStatus === 'I' && !this.#options.alwaysReset) {
      this.#ready(member)
      return
    }
    member.state = 'resetting'
    this.#counts.resets++
    this.#within(this.#options.resetTimeoutMs, member.connection.reset(), () => {
      if (member.connection.transactionStatus === 'I') this.#ready(member)
      else this.#fail(member, 'reset')
    }, () => { this.#fail(member, 'reset') })
  }

  #fail (member: Member<C>, reason: GoneReason): void {
    this.#discard(member, reason, true)
    this.#afterLoss()
  }

  /** Proven now: to the first waiter, else idle. */
  #ready (member: Member<C>): void {
    if (member.state === 'gone') return
    if (this.#draining || member.bornAtMs <= this.#demotedAtMs) {
      this.#discard(member, this.#draining ? 'drain' : 'suspect')
      this.#afterLoss()
      return
    }
    member.provenAtMs = this.#ports.clock.monotonic()
    member.state = 'idle'
    if (this.#expired(member)) {
      this.#afterLoss()
      return
    }
    if (this.#waiters.length > 0) {
      this.#hand(member)
      return
    }
    this.#idle.push(member)
    this.#keepTicking()
  }

  /** Gives an idle connection up that has had its time. */
  #expired (member: Member<C>): boolean {
    if (this.#ports.clock.monotonic() < member.retireAtMs) return false
    this.#counts.recycled++
    this.#discard(member, 'recycled')
    return true
  }

  #mayOpen (): boolean {
    const now = this.#ports.clock.monotonic()
    if (this.#draining || this.#openings.size >= this.#options.connectRamp) return false
    const places = this.#members.size + this.#openings.size
    return places < this.limit && !(now < this.#ceilingUntilMs && this.#members.size > 0)
  }

  #open (): void {
    const startedAtMs = this.#ports.clock.monotonic()
    const controller = new AbortController()
    this.#openings.add(controller)
    const timer = this.#ports.clock.setTimer(() => { controller.abort(new DOMException(`No connection within ${this.#options.connectTimeoutMs} ms`, 'TimeoutError')) }, this.#options.connectTimeoutMs)
    // The place is taken back when the limit passes, even from an opener that does not hear the signal.
    const aborted = new Promise<never>((_resolve, reject) => { controller.signal.addEventListener('abort', () => { reject(controller.signal.reason as Error) }, { once: true }) })
    const opening = this.#ports.open(connection => { this.#lost(connection) }, controller.signal)
    Promise.race([opening, aborted]).then(connection => {
      timer.cancel()
      this.#openings.delete(controller)
      this.#opened(connection)
    }, (error: Error) => {
      timer.cancel()
      this.#openings.delete(controller)
      opening.then(late => { late.destroy() }, () => {})
      this.#openFailed(error, startedAtMs)
    })
  }

  #opened (connection: C): void {
    this.#counts.opened++
    this.#failuresInARow = 0
    this.#lastOpenError = null
    const now = this.#ports.clock.monotonic()
    const spread = (this.#phase + this.#births++ * goldenRatio) % 1
    const member: Member<C> = { connection, bornAtMs: now, retireAtMs: now + this.#options.recycleMs * (1 - recycleSpread * spread), state: 'checking', provenAtMs: now }
    this.#members.add(member)
    this.#byConnection.set(connection, member)
    this.#ports.onOpen?.(connection)
    this.#ready(member)
    this.#serve()
    this.#keepMinimum()
  }

  #openFailed (error: Error, startedAtMs: number): void {
    if (this.#draining) {
      this.#settleDrain()
      return
    }
    this.#counts.openFailures++
    this.#lastOpenError = error
    this.#failuresInARow++
    const now = this.#ports.clock.monotonic()
    const most = Math.min(backoffMs.most, backoffMs.first * 2 ** Math.min(10, this.#failuresInARow))
    this.#quietUntilMs = now + most * this.#ports.random()
    // Too many clients: live with what there is for a while, and let those who wait have it.
    if ((error as { code?: unknown }).code === '53300') this.#ceilingUntilMs = now + ceilingLowMs * (0.5 + this.#ports.random() / 2)
    if (this.#members.size === 0) {
      const failed = this.#waiters.filter(waiter => waiter.sinceMs <= startedAtMs)
      for (const waiter of failed) {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1)
        waiter.settle()
        waiter.answer(error, null)
      }
    }
    this.#keepTicking()
    this.#serve()
  }

  #lost (connection: C): void {
    const member = this.#byConnection.get(connection)
    if (member === undefined) return
    this.#counts.lost++
    const index = this.#idle.indexOf(member)
    if (index >= 0) this.#idle.splice(index, 1)
    this.#suspectBeforeMs = Math.max(this.#suspectBeforeMs, this.#ports.clock.monotonic())
    this.#discard(member, 'lost', true)
    this.#afterLoss()
  }

  /** Frees the place at once; the socket follows when it can. */
  #discard (member: Member<C>, reason: GoneReason, hard: boolean = reason === 'verdict'): void {
    if (member.state === 'gone') return
    member.state = 'gone'
    this.#members.delete(member)
    this.#byConnection.delete(member.connection)
    if (hard) member.connection.destroy()
    else member.connection.close()
    this.#ports.onGone?.(member.connection, reason)
  }

  #afterLoss (): void {
    if (this.#draining) {
      this.#settleDrain()
      return
    }
    this.#serve()
    this.#keepMinimum()
    this.#keepTicking()
  }

  #settleDrain (): void {
    if (this.#members.size === 0) this.#drained?.()
  }

  #keepMinimum (): void {
    if (!this.#started || this.#ports.clock.monotonic() < this.#quietUntilMs) return
    while (this.#members.size + this.#openings.size < this.#options.minConnections && this.#mayOpen()) this.#open()
  }

  /** Runs while there is something to look after, never otherwise. */
  #keepTicking (): void {
    if (this.#tick !== null || this.#draining) return
    this.#tick = this.#ports.clock.setTimer(() => {
      this.#tick = null
      this.#tidy()
      const wanting = this.#started && this.#members.size < this.#options.minConnections
      if (this.#idle.length > 0 || this.#waiters.length > 0 || wanting) this.#keepTicking()
    }, Math.max(20, Math.min(500, this.#options.recycleMs / 200)))
  }

  #tidy (): void {
    const now = this.#ports.clock.monotonic()
    for (const member of [...this.#idle]) {
      const surplus = this.#members.size > this.#options.size && now - member.provenAtMs >= this.#options.overflowIdleMs
      if (!surplus && now < member.retireAtMs) continue
      this.#idle.splice(this.#idle.indexOf(member), 1)
      if (now >= member.retireAtMs) this.#expired(member)
      else this.#discard(member, 'overflow')
    }
    this.#serve()
    this.#keepMinimum()
  }

  /** Waits for a promise at most so long. The time runs in two halves, so that a stalled event loop, which sees timers before sockets, is not mistaken for a silent server. */
  #within (limitMs: number, promise: Promise<unknown>, then: () => void, otherwise: (timedOut: boolean) => void): void {
    let over = false
    const end = (next: () => void): void => {
      if (over) return
      over = true
      timer.cancel()
      next()
    }
    let timer = this.#ports.clock.setTimer(() => {
      timer = this.#ports.clock.setTimer(() => { end(() => { otherwise(true) }) }, limitMs / 2)
    }, limitMs / 2)
    promise.then(() => { end(then) }, () => { end(() => { otherwise(false) }) })
  }
}
