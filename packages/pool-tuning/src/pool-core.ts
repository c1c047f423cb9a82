import type { Clock } from '@orientor/session-contract/core'
import { ConnectionOpener, type Open } from './connection-opener.js'
import { ConnectionTrust } from './connection-trust.js'
import { errors } from './errors.js'
import { markUnsent } from './mark-unsent.js'
import type { ReleaseVerdict } from './release-verdict.js'
import { WaitingLine, type Answer } from './waiting-line.js'
import { within } from './within.js'

/** A connection as the core sees it: what it can be told, and what it tells. Nothing of it may throw. */
export interface PooledConnection {
  /** Whether the server has answered everything that was sent. */
  readonly settled: boolean
  /** I: idle, T: in a transaction, E: in a failed one, null: not known (PostgreSQL, protocol message ReadyForQuery). */
  readonly transactionStatus: 'I' | 'T' | 'E' | null
  /** Whether statements that were prepared on it may not fit any more; `reset()` forgets them. */
  readonly isOutdated: boolean
  /** Calls back once everything is answered. */
  settle (done: () => void): void
  /** The cheapest round trip. */
  ping (): Promise<unknown>
  /** Leaves the transaction, forgets outdated statements and, where so configured, the session state of the last user. */
  reset (): Promise<unknown>
  /** What was prepared on it, if anything, may not fit any more. */
  outdate (): void
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
  /** When it was lent last. */
  lentAtMs: number
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
  readonly open: Open<C>
  /** Must not throw. */
  readonly onOpen?: (connection: C) => void
  /** Must not throw. */
  readonly onGone?: (connection: C, reason: GoneReason) => void
}

/**
 * Why a connection is not in the pool any more: it was `lost`, too old (`recycled`), above the size (`overflow`), did not answer a `ping`, could not be `reset`, was
 * given back with a `verdict` against it, is `suspect` since another one failed, or the pool is closing (`drain`).
 */
export type GoneReason = 'lost' | 'recycled' | 'overflow' | 'ping' | 'reset' | 'verdict' | 'suspect' | 'drain'

/** Who waits for a connection. */
export interface Acquisition {
  /** On the monotonic clock; capped by the pool's own timeout. */
  readonly atMs?: number
  readonly signal?: AbortSignal
}

/** Counters since the start, and the picture of now. */
export interface PoolStats {
  readonly total: number
  readonly idle: number
  readonly lent: number
  readonly waiting: number
  readonly opening: number
  /** For how long the connection that was lent first of those that are lent now is lent; 0 when none is. A leak shows here. */
  readonly longestLentMs: number
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

/**
 * Lends connections: `size` kept, `overflow` more while there is need, waiters in order. Pure: time, chance and connections come from outside.
 *
 * A connection is lent only when it is proven: answered, out of any transaction, without outdated statements, not older than `recycleMs`, and pinged
 * after `pingAfterIdleMs` idle. One that falls silent takes the trust of all that are as old with it. A place is free the moment its connection is given up,
 * whatever its socket does, and a waiter is served by whatever comes first: a return, a new connection, a ping.
 */
export class PoolCore<C extends PooledConnection> {
  readonly #options: PoolCoreOptions
  readonly #ports: PoolCorePorts<C>
  readonly #opener: ConnectionOpener<C>
  readonly #trust: ConnectionTrust
  readonly #line: WaitingLine<Member<C>>
  readonly #members = new Map<C, Member<C>>()
  readonly #idle: Array<Member<C>> = []
  /** Pings on behalf of somebody in the line. */
  #checking = 0
  #tick: { cancel (): void } | null = null
  #draining: Promise<void> | null = null
  #drained = (): void => {}
  #started = false
  #counts = { checkouts: 0, immediateCheckouts: 0, timeouts: 0, lost: 0, recycled: 0, failedPings: 0, resets: 0, waitedMs: 0 }

  constructor (options: PoolCoreOptions, ports: PoolCorePorts<C>) {
    this.#options = options
    this.#ports = ports
    this.#trust = new ConnectionTrust(options.recycleMs, options.pingAfterIdleMs, ports.random())
    this.#line = new WaitingLine(ports.clock)
    this.#opener = new ConnectionOpener(options.connectTimeoutMs, options.connectRamp, ports, {
      opened: connection => { this.#opened(connection) },
      failed: (error, startedAtMs) => { this.#openFailed(error, startedAtMs) },
      lost: connection => { this.#lost(connection) },
      rested: () => { this.#wake() }
    })
  }

  get limit (): number {
    return this.#options.size + this.#options.overflow
  }

  /** Why the last connection could not be opened; null once one could. */
  get lastOpenError (): Error | null {
    return this.#opener.lastError
  }

  stats (): PoolStats {
    let lent = 0
    let lentSinceMs = Infinity
    for (const member of this.#members.values()) {
      if (member.state !== 'lent') continue
      lent++
      lentSinceMs = Math.min(lentSinceMs, member.lentAtMs)
    }
    const longestLentMs = lent === 0 ? 0 : this.#now() - lentSinceMs
    return Object.freeze({ total: this.#members.size, idle: this.#idle.length, lent, waiting: this.#line.length, opening: this.#opener.opening, longestLentMs, ...this.#counts, ...this.#opener.counts })
  }

  /** Opens the connections that are always kept, and keeps them from now on. */
  start (): void {
    this.#started = true
    this.#keepMinimum()
  }

  /** A proven idle connection, at once; null when there is none (then `acquire`). */
  tryAcquire (): Member<C> | null {
    const member = this.#idle.at(-1)
    if (member === undefined || this.#draining !== null) return null
    const now = this.#now()
    if (!this.#fit(member, now)) return null
    this.#idle.pop()
    member.state = 'lent'
    member.lentAtMs = now
    this.#counts.checkouts++
    this.#counts.immediateCheckouts++
    return member
  }

  /** Answers once: a connection, or an error at the deadline at the latest. */
  acquire ({ atMs = Infinity, signal }: Acquisition, answer: Answer<Member<C>>): void {
    if (this.#draining !== null) {
      answer(new errors.Closed(), null)
      return
    }
    const member = this.tryAcquire()
    if (member !== null) {
      answer(null, member)
      return
    }
    const patienceMs = Math.max(0, Math.min(this.#options.timeoutMs, atMs - this.#now()))
    this.#line.join(patienceMs, signal, answer, (waitedMs, reason) => this.#timeout(waitedMs, reason))
    this.#serve()
  }

  /** Takes a lent connection back and judges it; false when it was not lent (any more). */
  release (member: Member<C>, verdict: ReleaseVerdict): boolean {
    if (member.state !== 'lent') return false
    if (verdict === 'keep') {
      this.#admit(member, this.#options.alwaysReset)
      return true
    }
    this.#discard(member, 'verdict', true)
    if (verdict === 'severed') this.#trust.suspect(this.#now())
    if (verdict === 'silent') this.#probe()
    if (verdict === 'demoted') this.demote()
    this.#wake()
    return true
  }

  /** Every connection is to be dialled again: those idle now, those lent when they come back. At most once a second, since a statement may lie. */
  demote (): void {
    if (!this.#trust.demote(this.#now())) return
    for (const member of this.#idle.splice(0)) this.#discard(member, 'suspect')
  }

  /**
   * What any connection prepared may not fit any more, since a table changed: each forgets it before it is lent again. At most once a second, since one change
   * is told by many.
   */
  outdate (): void {
    if (!this.#trust.outdate(this.#now())) return
    for (const { connection } of this.#members.values()) connection.outdate()
    for (const member of this.#idle.filter(({ connection }) => connection.isOutdated)) {
      this.#idle.splice(this.#idle.indexOf(member), 1)
      this.#answered(member, false)
    }
  }

  /** Stops lending, waits for what is lent at most so long, then cuts it. Resolves when nothing is left. Called again, the shorter wait counts. */
  async drain (graceMs: number): Promise<void> {
    this.#draining ??= new Promise(resolve => { this.#drained = resolve })
    this.#tick?.cancel()
    this.#opener.abort(new errors.Closed())
    this.#line.refuse(new errors.Closed())
    for (const member of this.#idle.splice(0)) this.#discard(member, 'drain')
    const timer = this.#ports.clock.setTimer(() => { this.cut() }, graceMs)
    this.#wake()
    await this.#draining
    timer.cancel()
  }

  /** Cuts every connection, lent ones included: their statements fail now instead of hanging. */
  cut (): void {
    this.#idle.length = 0
    for (const member of [...this.#members.values()]) this.#discard(member, 'drain', true)
    this.#wake()
  }

  #now (): number {
    return this.#ports.clock.monotonic()
  }

  /** Whether it may be lent as it is. One that is idle may still be used by somebody who gave it back. */
  #fit (member: Member<C>, now: number): boolean {
    const { connection } = member
    return this.#trust.holds(member, now) && connection.settled && connection.transactionStatus === 'I' && !connection.isOutdated
  }

  /** Finds something for everybody in the line: an idle connection, one that passes a ping, a new one. */
  #serve (): void {
    const now = this.#now()
    while (this.#line.length > 0 && this.#idle.length > 0 && this.#fit(this.#idle.at(-1)!, now)) this.#hand(this.#idle.pop()!, now)
    let unserved = this.#line.length - this.#checking - this.#opener.opening
    while (unserved > 0 && this.#idle.length > 0) {
      const member = this.#idle.pop()!
      if (this.#expired(member, now)) continue
      this.#check(member, true)
      unserved--
    }
    for (; unserved > 0 && this.#mayOpen(this.#members.size > 0); unserved--) this.#opener.open()
  }

  #hand (member: Member<C>, now: number): void {
    member.state = 'lent'
    member.lentAtMs = now
    this.#counts.checkouts++
    this.#counts.waitedMs += this.#line.serve(member)
  }

  #timeout (waitedMs: number, reason: unknown): Error {
    this.#counts.timeouts++
    const { total, lent, waiting, opening, longestLentMs } = this.stats()
    const { lastError } = this.#opener
    const cause = lastError ?? reason
    const error = new errors.CheckoutTimeout(`No connection was to be had within ${Math.round(waitedMs)} ms: ${lent} lent of ${total} open (at most ${this.limit}), one of them for ${Math.round(longestLentMs)} ms, ${opening} being opened, ${waiting} more waiting${
      lastError === null ? '. Lend connections for a shorter time, or raise size or overflow.' : '. The last attempt to connect failed; see the cause.'}`)
    return Object.assign(markUnsent(error), cause === null ? {} : { cause })
  }

  /** @param isAwaited - whether somebody in the line counts on it */
  #check (member: Member<C>, isAwaited: boolean): void {
    member.state = 'checking'
    const weight = isAwaited ? 1 : 0
    this.#checking += weight
    const askedAtMs = this.#now()
    within(this.#ports.clock, this.#options.pingTimeoutMs, member.connection.ping(), () => {
      this.#checking -= weight
      if (member.state === 'checking') this.#answered(member, false)
      else this.#wake()
    }, timedOut => {
      this.#checking -= weight
      this.#counts.failedPings++
      this.#discard(member, 'ping', true)
      if (timedOut) this.#distrust(askedAtMs)
      else this.#trust.suspect(askedAtMs)
      this.#wake()
    })
  }

  /** After a statement without an answer, which may be the fault of the statement: asks every idle connection at once, with nobody waiting for it. */
  #probe (): void {
    this.#trust.suspect(this.#now())
    for (const member of this.#idle.splice(0)) this.#check(member, false)
  }

  /** After silence on a ping: idle connections that were not heard of since are given up (SQLAlchemy's rule for a failed pre-ping). */
  #distrust (sinceMs: number): void {
    this.#trust.suspect(sinceMs)
    for (const member of [...this.#idle]) {
      if (member.provenAtMs >= sinceMs) continue
      this.#idle.splice(this.#idle.indexOf(member), 1)
      this.#discard(member, 'suspect', true)
    }
  }

  /** Lets a connection in, from a borrower or from the server: once it has nothing left to answer. */
  #admit (member: Member<C>, mustReset: boolean): void {
    const { connection } = member
    if (connection.settled) {
      this.#answered(member, mustReset)
      return
    }
    member.state = 'resetting'
    within(this.#ports.clock, this.#options.resetTimeoutMs, new Promise<void>(resolve => { connection.settle(resolve) }),
      () => { this.#answered(member, mustReset) }, () => { this.#fail(member) })
  }

  #answered (member: Member<C>, mustReset: boolean): void {
    if (member.state === 'gone') return
    if (member.connection.transactionStatus === 'I' && !mustReset && !member.connection.isOutdated) {
      this.#ready(member)
      return
    }
    member.state = 'resetting'
    this.#counts.resets++
    within(this.#ports.clock, this.#options.resetTimeoutMs, member.connection.reset(), () => {
      if (member.connection.transactionStatus === 'I') this.#ready(member)
      else this.#fail(member)
    }, () => { this.#fail(member) })
  }

  #fail (member: Member<C>): void {
    this.#discard(member, 'reset', true)
    this.#wake()
  }

  /** Proven now: to the first waiter, else idle. */
  #ready (member: Member<C>): void {
    if (member.state === 'gone') return
    if (this.#draining !== null || this.#trust.leadsToDemoted(member)) {
      this.#discard(member, this.#draining === null ? 'suspect' : 'drain')
      this.#wake()
      return
    }
    const now = this.#now()
    member.provenAtMs = now
    member.state = 'idle'
    if (this.#expired(member, now)) this.#wake()
    else if (this.#line.length > 0) this.#hand(member, now)
    else {
      this.#idle.push(member)
      this.#keepTicking()
    }
  }

  /** Gives an idle connection up that has had its time. */
  #expired (member: Member<C>, now: number): boolean {
    if (now < member.retireAtMs) return false
    this.#counts.recycled++
    this.#discard(member, 'recycled')
    return true
  }

  /** @param canWait - whether something else may serve instead while the opener rests */
  #mayOpen (canWait: boolean): boolean {
    return this.#draining === null && !this.#opener.isBusy && this.#members.size + this.#opener.opening < this.limit && !(canWait && this.#opener.isResting)
  }

  #opened (connection: C): void {
    const now = this.#now()
    const member: Member<C> = { connection, bornAtMs: now, retireAtMs: this.#trust.retirement(now), state: 'checking', provenAtMs: now, lentAtMs: 0 }
    this.#members.set(connection, member)
    this.#ports.onOpen?.(connection)
    this.#admit(member, false)
    this.#wake()
  }

  /** Who waited for this connection is told, unless another may still serve them. */
  #openFailed (error: Error, startedAtMs: number): void {
    if (this.#members.size === 0) this.#line.refuse(error, startedAtMs)
    this.#wake()
  }

  #lost (connection: C): void {
    const member = this.#members.get(connection)
    if (member === undefined) return
    this.#counts.lost++
    const index = this.#idle.indexOf(member)
    if (index >= 0) this.#idle.splice(index, 1)
    this.#trust.suspect(this.#now())
    this.#discard(member, 'lost', true)
    this.#wake()
  }

  /** Frees the place at once; the socket follows when it can. */
  #discard (member: Member<C>, reason: GoneReason, hard: boolean = false): void {
    if (member.state === 'gone') return
    member.state = 'gone'
    this.#members.delete(member.connection)
    if (hard) member.connection.destroy()
    else member.connection.close()
    this.#ports.onGone?.(member.connection, reason)
  }

  /** After every change that may let somebody go on. */
  #wake (): void {
    if (this.#draining !== null) {
      if (this.#members.size === 0) this.#drained()
      return
    }
    this.#serve()
    this.#keepMinimum()
    this.#keepTicking()
  }

  #keepMinimum (): void {
    while (this.#started && this.#members.size + this.#opener.opening < this.#options.minConnections && this.#mayOpen(true)) this.#opener.open()
  }

  /** Runs while there is something to look after, never otherwise. */
  #keepTicking (): void {
    if (this.#tick !== null || this.#draining !== null || (this.#idle.length === 0 && this.#line.length === 0)) return
    this.#tick = this.#ports.clock.setTimer(() => {
      this.#tick = null
      this.#tidy()
      this.#wake()
    }, Math.max(20, Math.min(500, this.#options.recycleMs / 200)))
  }

  #tidy (): void {
    const now = this.#now()
    for (const member of [...this.#idle]) {
      const surplus = this.#members.size > this.#options.size && now - member.provenAtMs >= this.#options.overflowIdleMs
      if (!surplus && now < member.retireAtMs) continue
      this.#idle.splice(this.#idle.indexOf(member), 1)
      if (!this.#expired(member, now)) this.#discard(member, 'overflow')
    }
  }
}
