import { randomUUID } from 'node:crypto'
import { invalidOption, type Instrument, type Timer, type UserChange } from '@orientor/session-contract/core'
import { messagesOf, ringOf } from '../bell/ring-message.js'
import { Relay } from '../bell/relay.js'
import { busInstruments, BusCounters } from '../coherence/bus-instruments.js'
import type { BusNews, BusStart, BusStatus, InvalidationBus } from '../coherence/invalidation-bus.js'
import { PolledTrust, type PollState } from '../coherence/polled-trust.js'
import { TrustListeners } from '../coherence/trust-listeners.js'
import { errors } from '../errors.js'
import { installSql } from './install-outbox.js'
import { inTransaction } from './locked-transaction.js'
import type { TableTriggers } from './noting-triggers.js'
import { OutboxClient } from './outbox-client.js'
import { checkedTriggers } from './outbox-sql.js'
import { owner, resolveBusOptions, type PostgresBusOptions, type PostgresBusSettings } from './postgres-bus-options.js'
import { reserve, type ReservedPool } from './reserved-pool.js'

/** The time that start() waits for the first answer. */
const startPatienceMs = 3000
const firstInstallPauseMs = 250
const longestInstallPauseMs = 60_000
/** The time between two check-ins, in which an instance says that it is there, and removes what all have read. */
const checkInIntervalMs = 20_000
/** The time between two check-ins while there is more to be removed than one removes. */
const removalPauseMs = 200
/**
 * The number of check-ins, of all instances together, at one of which triggers are looked for that no instance needs
 * any more. Besides, each instance looks at its first.
 */
const checkInsPerRetirement = 3
/**
 * The time in which an instance polls once at most for rings that carry no changes, so that a bell cannot make all
 * instances poll all the time.
 */
const hurryPauseMs = 50
/** The time between two questions of the relay for what to ring. */
const relayIntervalMs = 20

/**
 * A bus over PostgreSQL: triggers note every change of the watched tables, by whomever, inside its transaction in a
 * table (the outbox), and each instance polls it over the app's own pool.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function postgresBus (options: PostgresBusOptions = {}): InvalidationBus {
  return new PostgresBus(resolveBusOptions(options))
}

class PostgresBus implements InvalidationBus {
  readonly name = 'postgres'
  readonly hearsWrites = true
  readonly trust: PolledTrust
  readonly leaseMs: number
  readonly instruments: readonly Instrument[]
  readonly #settings: PostgresBusSettings
  readonly #listeners = new Set<(change: UserChange) => void>()
  readonly #trustListeners = new TrustListeners()
  readonly #counters = new BusCounters()
  readonly #told = new Set<string>()
  readonly #instance = randomUUID()
  #report: (news: BusNews) => void = () => {}
  #triggers: readonly TableTriggers[] = []
  #pool: ReservedPool | null = null
  #outbox: OutboxClient | null = null
  #relay: Relay | null = null
  #instances: number | null = null
  #isInstalling = false
  #installAgain: Timer | null = null
  #installPauseMs = firstInstallPauseMs
  #nextCheckIn: Timer | null = null
  #hasRetired = false
  #hurriedAtMs = -Infinity
  #known: (() => void) | null = null

  constructor (settings: PostgresBusSettings) {
    this.#settings = settings
    this.leaseMs = settings.pollIntervalMs + settings.pollTimeoutMs
    this.trust = new PolledTrust({
      ...settings,
      ask: position => this.#outbox!.ask(position),
      apply: change => { this.#apply(change) },
      changed: state => { this.#changed(state) }
    })
    this.instruments = busInstruments(this.trust, this.#counters, () => this.status(), settings.clock)
  }

  async start ({ watches, report, pool = null }: BusStart): Promise<void> {
    const { bell, clock, columnLists, pollTimeoutMs, schema } = this.#settings
    const tables = this.#settings.watches ?? watches
    if (tables.length === 0) {
      throw invalidOption(owner, 'there is nothing to watch: the source names no tables. Give the option "watches".')
    }
    this.#triggers = checkedTriggers(tables, columnLists)
    const given = this.#settings.pool ?? pool
    if (given === null) throw errors.NoBusPool()
    this.#report = report
    this.#pool = reserve(given, pollTimeoutMs)
    this.#outbox = new OutboxClient({
      pool: this.#pool.pool, triggers: this.#triggers, schema, clock, timeoutMs: pollTimeoutMs, instance: this.#instance
    })
    await new Promise<void>(resolve => {
      const patience = clock.setTimer(resolve, startPatienceMs)
      this.#known = () => {
        patience.cancel()
        resolve()
      }
      this.trust.start()
    })
    this.#known = null
    const { missing } = this.#outbox
    if (missing !== null) {
      await this.close()
      throw this.#misdescribed(missing)
    }
    await bell?.start({ heard: message => { this.#heard(message) }, report })
  }

  subscribe (listener: (change: UserChange) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  onTrust (listener: (status: BusStatus) => void): () => void {
    return this.#trustListeners.add(listener)
  }

  async publish (change: UserChange): Promise<void> {
    if (this.#outbox === null || this.trust.state.phase === 'closed') throw new errors.BusUnavailable()
    try {
      await this.#outbox.note(change)
    } catch (cause) {
      throw new errors.BusUnavailable({ cause })
    }
    this.hint([change])
    this.trust.hurry()
  }

  hint (changes: readonly UserChange[]): void {
    const { bell } = this.#settings
    if (bell === null) return
    // A ring that is lost costs latency only.
    for (const message of messagesOf(changes)) bell.ring(message).catch(() => {})
  }

  status (): BusStatus {
    const { phase, reason } = this.trust.state
    const remedy = remedies[phase]
    const { clock, maxStalenessMs } = this.#settings
    const isProven = this.trust.provenAtMs === -Infinity || clock.monotonic() - this.trust.provenAtMs < maxStalenessMs
    return {
      trusted: phase === 'trusted' && isProven,
      reason: phase === 'trusted' && !isProven ? 'Polls are answered, but no survey of what announces was made for a while' : reason,
      ...(remedy === undefined ? {} : { remedy }),
      instances: phase === 'trusted' || phase === 'doubtful' ? this.#instances : null
    }
  }

  async close (): Promise<void> {
    const isThere = this.#instances !== null && this.trust.state.phase === 'trusted'
    this.#installAgain?.cancel()
    this.#nextCheckIn?.cancel()
    this.trust.close()
    this.#known?.()
    await Promise.all([this.#relay?.close(), this.#settings.bell?.close()])
    const outbox = this.#outbox
    this.#outbox = null
    if (isThere) await outbox?.checkOut().catch(() => {})
    await this.#pool?.end()
  }

  #apply (change: UserChange): void {
    this.#counters[change.kind === 'all' ? 'all' : 'users']++
    for (const listener of this.#listeners) listener(change)
  }

  #heard (message: string): void {
    this.#counters.rings++
    const ring = ringOf(message)
    if (ring === null) {
      this.#counters.unreadable++
      this.#once('unreadable', {
        level: 'warn',
        message: `The bell (${this.#settings.bell!.name}) brings what is no ring of this service; it is ignored. ` +
          'Give this service a channel of its own'
      })
    } else if (ring === 'poll') {
      const nowMs = this.#settings.clock.monotonic()
      if (nowMs - this.#hurriedAtMs < hurryPauseMs) return
      this.#hurriedAtMs = nowMs
      this.trust.hurry()
    } else {
      for (const change of ring.changes) this.#apply(change)
    }
  }

  #changed ({ phase, reason }: PollState): void {
    const trusted = phase === 'trusted'
    if (phase === 'doubtful') this.#repair(reason)
    else this.#known?.()
    if (trusted) {
      this.#installAgain?.cancel()
      this.#installAgain = null
      this.#installPauseMs = firstInstallPauseMs
      if (this.#nextCheckIn === null) this.#checkIn()
      this.#startRelay()
    }
    if (!this.#trustListeners.note(this.status(), this.trust.epoch) || phase === 'closed') return
    this.#report(trusted
      ? { level: 'info', message: 'session bus: trusted' }
      : { level: 'warn', message: `session bus: not trusted. ${reason}` })
  }

  #checkIn (): void {
    const { clock, random } = this.#settings
    this.#nextCheckIn = clock.setTimer(() => { this.#checkIn() }, checkInIntervalMs * (0.9 + 0.2 * random()))
    this.#outbox?.checkIn().then(async ({ instances, more }) => {
      this.#instances = instances
      if (more) this.#checkInSoon()
      const isTurn = !this.#hasRetired || random() * checkInsPerRetirement * instances < 1
      if (!this.#settings.installTriggers || !isTurn) return
      this.#hasRetired = true
      await this.#outbox?.retire()
    }).catch(() => {})
  }

  /** There is more to be removed than was at once. */
  #checkInSoon (): void {
    this.#nextCheckIn?.cancel()
    this.#nextCheckIn = this.#settings.clock.setTimer(() => { this.#checkIn() }, removalPauseMs)
  }

  #startRelay (): void {
    const { bell, clock, random } = this.#settings
    const outbox = this.#outbox
    if (bell === null || outbox === null || this.#relay !== null) return
    this.#relay = new Relay({
      clock,
      random,
      lead: () => outbox.lead(),
      tail: position => outbox.tail(position),
      ring: message => bell.ring(message),
      canRing: () => bell.status().connected,
      instances: () => this.#instances ?? 1,
      relayIntervalMs
    })
    this.#relay.start()
  }

  #misdescribed (missing: string): Error {
    return invalidOption(
      owner, `what is watched is not there. ${missing}. Mend "watches", of the source or of the bus.`
    )
  }

  /** Puts in place what is missing; then polls again. */
  #repair (reason: string): void {
    const missing = this.#outbox?.missing ?? null
    if (missing !== null) {
      // At the start it is thrown; later it can only be said.
      if (this.#known !== null) this.#known()
      else this.#once('columns', { level: 'warn', message: this.#misdescribed(missing).message })
      return
    }
    if (!this.#settings.installTriggers) {
      this.#refused(`${reason}. Run the SQL that comes with this message as the owner of the table`)
      this.#known?.()
      return
    }
    if (this.#isInstalling || this.#installAgain !== null || this.#outbox === null) return
    const { clock } = this.#settings
    this.#isInstalling = true
    this.#outbox.install().then(installed => {
      this.#isInstalling = false
      if (this.trust.state.phase === 'closed') return
      if (installed.kind === 'refused') {
        this.#refused(`${reason}. That could not be put right (${installed.code}): run the SQL that comes with this ` +
          'message as the owner of the table')
      }
      // 55P03: another instance is at it, or a writer is: in a moment it is done.
      if (installed.kind !== 'done' && installed.code !== '55P03') this.#known?.()
      const pauseMs = installed.kind === 'refused' ? longestInstallPauseMs : this.#installPauseMs
      this.#installAgain = clock.setTimer(() => {
        this.#installAgain = null
        this.trust.hurry()
      }, pauseMs)
      this.#installPauseMs = Math.min(longestInstallPauseMs, this.#installPauseMs * 2)
      if (installed.kind === 'done') this.trust.hurry()
    }).catch(() => {})
  }

  #refused (message: string): void {
    const sql = inTransaction(installSql(this.#triggers, this.#settings.schema, 500))
    this.#once('triggers', { level: 'warn', message, sql })
  }

  #once (subject: string, news: BusNews): void {
    if (this.#told.has(subject)) return
    this.#told.add(subject)
    this.#report(news)
  }
}

/** The step that an operator can take while the bus stays in a phase. */
const remedies: Readonly<Partial<Record<PollState['phase'], string>>> = {
  idle: 'Give the cache a source of users: its option "source", or a plugin that fills the slot',
  waiting: 'Check that the pool reaches the primary, and whether pollTimeoutMs is enough for that',
  doubtful: 'Put right what the reason names; for triggers run, as the owner of the table, the SQL that outboxSql() ' +
    'returns, or give the pool a role that owns it'
}
