import {
  invalidOption, type Instrument, type Timer, type UserChange, type WatchedTable
} from '@orientor/session-contract/core'
import { errors } from '../errors.js'
import { installSql } from '../sql/install-triggers.js'
import { triggersFor, type TriggerSet } from '../sql/trigger-set.js'
import { announcementOf } from './announcement.js'
import { busInstruments, BusCounters } from './bus-instruments.js'
import type { BusNews, BusStart, BusStatus, InvalidationBus } from './invalidation-bus.js'
import { LeasedTrust, type LeaseState, type LineReports } from './leased-trust.js'
import { owner, resolveBusOptions, triggerDefaults, type PostgresBusOptions, type PostgresBusSettings } from './postgres-bus-options.js'
import { poolerInTheWay, PostgresLine, type Reading } from './postgres-line.js'
import { TriggerInstaller } from './trigger-installer.js'
import { TrustListeners } from './trust-listeners.js'
import { watchedTables } from './watched-tables.js'

const startPatienceMs = 3000
const firstInstallPauseMs = 100
const longestInstallPauseMs = 60_000
/** From which share on the queue of notifications is reported as filling up. */
const crowdedQueue = 0.1

/**
 * A bus over LISTEN and NOTIFY of PostgreSQL: triggers announce every change of the watched tables, whoever makes it, inside its transaction.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function postgresBus (options: PostgresBusOptions): InvalidationBus {
  return new PostgresBus(resolveBusOptions(options))
}

/**
 * SQL of the triggers, for whoever installs them by hand: idempotent, one transaction. The same `channel` and `columnLists` as the bus has.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION when a table is not described as it has to be
 */
export function triggerSql (watches: readonly WatchedTable[], { channel, columnLists }: Pick<PostgresBusOptions, 'channel' | 'columnLists'> = {}): string {
  return installSql(triggersFor(checked(watches), channel ?? triggerDefaults.channel, columnLists ?? triggerDefaults.columnLists))
}

function checked (watches: readonly WatchedTable[]): readonly WatchedTable[] {
  if (watchedTables.accept(watches) === undefined) throw invalidOption(owner, `what the source watches must be ${watchedTables.must}.`)
  return watches
}

class PostgresBus implements InvalidationBus {
  readonly name = 'postgres'
  readonly hearsWrites = true
  readonly trust: LeasedTrust
  readonly leaseMs: number
  readonly instruments: readonly Instrument[]
  readonly #settings: PostgresBusSettings
  readonly #listeners = new Set<(change: UserChange) => void>()
  readonly #trustListeners = new TrustListeners()
  readonly #counters = new BusCounters()
  readonly #told = new Set<string>()
  #report: (news: BusNews) => void = () => {}
  #triggers: TriggerSet = { id: '', tables: [] }
  #installer: TriggerInstaller | null = null
  #isInstalling = false
  #installAgain: Timer | null = null
  #installPauseMs = firstInstallPauseMs
  #line: PostgresLine | null = null
  #reading: Reading | null = null
  #hasPruned = false
  #known: (() => void) | null = null
  #wasTrusted = false
  /** Why the bus cannot start; null while nothing is known against it. */
  #refusal: Error | null = null

  constructor (settings: PostgresBusSettings) {
    this.#settings = settings
    this.leaseMs = settings.heartbeatIntervalMs + settings.heartbeatTimeoutMs
    this.trust = new LeasedTrust({ ...settings, dial: reports => this.#dial(reports), changed: state => { this.#changed(state) } })
    this.instruments = busInstruments(this.trust, this.#counters, () => this.status(), () => this.#reading?.queueUsage ?? 0, settings.clock)
  }

  async start ({ watches, report }: BusStart): Promise<void> {
    const { advice, channel, clock, columnLists, heartbeatTimeoutMs, installTriggers } = this.#settings
    const tables = this.#settings.watches ?? watches
    if (tables.length === 0) throw invalidOption(owner, 'there is nothing to watch: the source names no tables. Give the option "watches".')
    this.#triggers = triggersFor(checked(tables), channel, columnLists)
    this.#report = report
    if (advice !== null) report({ level: 'warn', message: `session bus: ${advice}` })
    if (installTriggers) this.#installer = new TriggerInstaller({ connection: this.#settings.connection, triggers: this.#triggers, withinMs: heartbeatTimeoutMs })
    await new Promise<void>(resolve => {
      const patience = clock.setTimer(resolve, startPatienceMs)
      this.#known = () => {
        patience.cancel()
        resolve()
      }
      this.trust.start()
    })
    this.#known = null
    if (this.#refusal === null) return
    await this.close()
    throw this.#refusal
  }

  subscribe (listener: (change: UserChange) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  onTrust (listener: (status: BusStatus) => void): () => void {
    return this.#trustListeners.add(listener)
  }

  async publish (change: UserChange): Promise<void> {
    if (this.#line === null) throw new errors.BusUnavailable()
    await this.#line.announce(announcementOf(change))
  }

  status (): BusStatus {
    const { phase, reason } = this.trust.state
    const remedy = remedies[phase]
    const crowded = (this.#reading?.queueUsage ?? 0) >= crowdedQueue
    return {
      trusted: phase === 'trusted',
      reason: crowded ? `${reason}; the queue of notifications is filling up (${percent(this.#reading!.queueUsage)})` : reason,
      ...(remedy === undefined ? {} : { remedy }),
      instances: phase === 'trusted' || phase === 'doubtful' ? this.#reading?.instances ?? null : null
    }
  }

  async close (): Promise<void> {
    this.#installAgain?.cancel()
    const line = this.#line
    this.#line = null
    await line?.close()
    this.trust.close()
    this.#known?.()
    await this.#installer?.close()
  }

  #dial (reports: LineReports): PostgresLine {
    this.#counters.connections++
    this.#line = new PostgresLine({
      connection: this.#settings.connection,
      channel: this.#settings.channel,
      triggers: this.#triggers,
      applicationName: this.#settings.applicationName,
      lockTimeoutMs: this.#settings.heartbeatTimeoutMs,
      reports,
      announced: change => { this.#announce(change) },
      observed: reading => { this.#observe(reading) },
      misdescribed: this.#wasTrusted ? null : what => { this.#misdescribed(what) }
    })
    return this.#line
  }

  #misdescribed (what: string): void {
    this.#refusal = invalidOption(owner, `what is watched is not there. ${what}. Mend "watches", of the source or of the bus.`)
    // After the start it can only be said.
    if (this.#known === null) this.#once('columns', { level: 'warn', message: this.#refusal.message })
    else this.#known()
  }

  #announce (change: UserChange | null): void {
    if (change === null) {
      this.#counters.unreadable++
      this.#once('unreadable', { level: 'warn', message: `Something else than this service sends notifications on the channel "${this.#settings.channel}"; they are ignored. Give this service a channel of its own (option "channel")` })
      return
    }
    this.#counters[change.kind === 'all' ? 'all' : 'users']++
    for (const listener of this.#listeners) listener(change)
  }

  #observe (reading: Reading): void {
    this.#reading = reading
    if (reading.queueUsage < crowdedQueue) this.#told.delete('queue')
    else {
      this.#once('queue', { level: 'warn', message: `The queue of notifications is filled to ${percent(reading.queueUsage)}. When it is full, transactions that announce changes fail at commit. Some session listens and has a transaction open for long: find it in pg_stat_activity, ordered by xact_start` })
    }
  }

  #changed ({ phase, reason }: LeaseState): void {
    const trusted = phase === 'trusted'
    // A heartbeat on its way, and the first steps of a connection, decide nothing.
    if (phase === 'connecting' || phase === 'proving') return
    if (phase === 'doubtful') this.#repair(reason)
    else this.#known?.()
    if (trusted) {
      this.#wasTrusted = true
      if (!this.#hasPruned) this.#installer?.prune().catch(() => {})
      this.#hasPruned = true
      this.#installAgain?.cancel()
      this.#installAgain = null
      this.#installPauseMs = firstInstallPauseMs
    }
    if (phase === 'waiting' && reason === poolerInTheWay) this.#once('pooler', { level: 'warn', message: `${poolerInTheWay}. Until then users are kept for maxStalenessMs only` })
    if (!this.#trustListeners.note(this.status(), this.trust.epoch) || phase === 'closed') return
    this.#report(trusted ? { level: 'info', message: 'session bus: trusted' } : { level: 'warn', message: `session bus: not trusted. ${reason}` })
  }

  /** Puts triggers in place that are missing; then has a heartbeat look again. */
  #repair (reason: string): void {
    if (this.#installer === null) {
      this.#once('triggers', { level: 'warn', message: `${reason}. Run the SQL that comes with this message as the owner of the table`, sql: installSql(this.#triggers) })
      this.#known?.()
      return
    }
    if (this.#isInstalling || this.#installAgain !== null) return
    const { clock } = this.#settings
    this.#isInstalling = true
    this.#installer.install().then(installed => {
      this.#isInstalling = false
      if (this.trust.state.phase === 'closed') return
      if (installed.kind === 'refused') {
        this.#once('triggers', { level: 'warn', message: `${reason}. That could not be put right (${installed.code}): run the SQL that comes with this message as the owner of the table`, sql: installSql(this.#triggers) })
      }
      if (installed.kind !== 'done') this.#known?.()
      this.#installAgain = clock.setTimer(() => {
        this.#installAgain = null
        this.trust.hurry()
      }, installed.kind === 'refused' ? longestInstallPauseMs : this.#installPauseMs)
      this.#installPauseMs = Math.min(longestInstallPauseMs, this.#installPauseMs * 2)
      if (installed.kind === 'done') this.trust.hurry()
    }).catch(() => {})
  }

  #once (subject: string, news: BusNews): void {
    if (this.#told.has(subject)) return
    this.#told.add(subject)
    this.#report(news)
  }
}

/** What an operator can do while the bus stays in a phase. */
const remedies: Readonly<Partial<Record<LeaseState['phase'], string>>> = {
  idle: 'Give the cache a source of users: its option "source", or a plugin that fills the slot',
  connecting: 'Check that listenUrl (or connection) reaches PostgreSQL itself, and whether heartbeatTimeoutMs is enough for that',
  waiting: 'Check that listenUrl (or connection) reaches the primary itself, past any pooler, and that its role may log in',
  proving: 'Check why heartbeats take so long, or give the bus a longer heartbeatTimeoutMs',
  doubtful: 'Put right what the reason names; for triggers run, as the owner of the table, the SQL that triggerSql() returns, or give the bus a role that owns it'
}

function percent (share: number): string {
  return `${Math.round(share * 100)} %`
}
