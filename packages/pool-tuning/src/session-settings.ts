import type pg from 'pg'
import { asSent, databaseFailureOf, isOutage, quotedName, sqlLiteral } from '@orientor/session-contract/core'

/**
 * Session settings by their names in PostgreSQL; null for one that is left to the server. Durations in milliseconds, 0
 * for no limit.
 */
export interface SessionSettings {
  readonly statement_timeout: number | null
  readonly lock_timeout: number | null
  readonly idle_in_transaction_session_timeout: number | null
  readonly effective_cache_size: string | null
  readonly random_page_cost: number | null
}

/** The settings of a session that are not given. */
export const defaultSessionSettings: SessionSettings = Object.freeze({
  statement_timeout: 30_000,
  lock_timeout: 10_000,
  idle_in_transaction_session_timeout: 60_000,
  effective_cache_size: null,
  random_page_cost: null
})

/** The way in which settings reach the session; see SettingsDelivery. */
export type Delivery = 'auto' | 'startup' | 'set' | 'transaction' | 'role'

type Name = keyof SessionSettings
/** Settings of the planner: guesses about the machine, which the operator of the server knows better. */
const plannerNames: ReadonlySet<Name> = new Set<Name>(['effective_cache_size', 'random_page_cost'])
const startupNames: ReadonlySet<Name> = new Set<Name>([
  'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout'
])

/** The findings of the first connection. */
export interface Verification {
  /** Whether the backend that answers is the one that was announced at the start; if not, a pooler sits in between. */
  readonly pooled: boolean
  /** Settings that are not as sent, by name, with what is in force. */
  readonly notApplied: ReadonlyMap<string, string>
}

/**
 * Brings session settings to the server.
 *
 * - `startup`: as startup parameters; no round trip, and RESET ALL and DISCARD ALL come back to them
 * - `set`: by SET on every new connection; not for transaction poolers, where the next client would see them
 * - `transaction`: by SET LOCAL at the beginning of `transact()`; safe behind every pooler
 * - `role`: not at all; the database owner writes them once with ALTER ROLE
 * - `auto`: `startup`, and `transaction` from the moment a pooler shows itself
 *
 * A setting of the planner is brought only where the server has its built-in default (`pg_settings.source`): a
 * value that an operator set, in the server's files, for the database or for the role, stays. The first connection finds
 * that out.
 */
export class SettingsDelivery {
  readonly #wanted: Map<Name, string>
  readonly #own: ReadonlySet<string>
  readonly #kept = new Map<string, string>()
  /** Settings of which it is not known yet whether the server has a value of its own. */
  readonly #undecided: Set<Name>
  readonly #auto: boolean
  #mode: Exclude<Delivery, 'auto'>

  /**
   * @param client - the app's own client configuration; what it sets stays as it is
   * @param connectionParameters - of a client made by that configuration: what it says after connection string and
   *   environment
   */
  constructor (settings: SessionSettings, delivery: Delivery, connectionParameters: Readonly<Record<string, unknown>>) {
    this.#auto = delivery === 'auto'
    this.#mode = delivery === 'auto' ? 'startup' : delivery
    const options = typeof connectionParameters['options'] === 'string' ? connectionParameters['options'] : ''
    const flags = [...options.matchAll(/(?:-c\s*|--)([a-z_-]+)\s*=/gi)]
    const own = new Set<string>(flags.map(([, name]) => name!.toLowerCase().replaceAll('-', '_')))
    const wanted = new Map<Name, string>()
    for (const [name, value] of Object.entries(settings) as Array<[Name, string | number | null]>) {
      if (value === null || own.has(name)) continue
      const given = connectionParameters[name]
      if (given !== undefined && given !== null && given !== false) own.add(name)
      else wanted.set(name, String(value))
    }
    this.#wanted = wanted
    this.#own = own
    this.#undecided = new Set([...wanted.keys()].filter(name => plannerNames.has(name)))
  }

  get mode (): Exclude<Delivery, 'auto'> {
    return this.#mode
  }

  /** Names of settings that the app's own configuration sets. */
  get own (): ReadonlySet<string> {
    return this.#own
  }

  get wanted (): ReadonlyMap<string, string> {
    return this.#wanted
  }

  /**
   * Settings that an operator set at the server, so that they stay, by name, with the place: `configuration file`,
   * `database`, `user` …
   */
  get kept (): ReadonlyMap<string, string> {
    return this.#kept
  }

  /**
   * Finds out, on a connection that was made without them, which of the planner's settings the server has a value of
   * its own for.
   *
   * @param options - that the connection was made with
   * @returns whether it should be made anew, since it lacks what it is to begin with: so do all that were on their way
   *   meanwhile
   */
  async decide (client: pg.ClientBase, options: string): Promise<boolean> {
    if (this.#undecided.size > 0) this.#learn(await sourcesOf(client, [...this.#undecided]))
    if (this.#mode !== 'startup') return false
    return [...this.#wanted.keys()].some(name => plannerNames.has(name) && !options.includes(`-c ${name}=`))
  }

  #learn (sources: ReadonlyMap<string, string>): void {
    for (const name of this.#undecided) {
      const source = sources.get(name) ?? 'not known'
      if (source === 'default') continue
      this.#kept.set(name, source)
      this.#wanted.delete(name)
    }
    this.#undecided.clear()
  }

  /** The part of a client's configuration that carries the settings; empty unless delivered at startup. */
  startupConfig (options: string | undefined): pg.ClientConfig {
    if (this.#mode !== 'startup') return {}
    const config: Record<string, unknown> = {}
    const flags = options === undefined || options === '' ? [] : [options]
    for (const [name, value] of this.#wanted) {
      if (this.#undecided.has(name)) continue
      // pg leaves a 0 out of the startup message.
      if (startupNames.has(name) && value !== '0') config[name] = Number(value)
      else flags.push(`-c ${name}=${value.replace(/[\\ ]/g, '\\$&')}`)
    }
    if (flags.length > 0) config['options'] = flags.join(' ')
    return config
  }

  /** Statement for a new connection, or null. */
  get onConnect (): string | null {
    return this.#mode === 'set' ? this.#statements('SET') : null
  }

  /** Statement for the beginning of a transaction, or null. */
  get onBegin (): string | null {
    return this.#mode === 'transaction' ? this.#statements('SET LOCAL') : null
  }

  /** The SQL that the owner of the database may run instead, for the role that connects. */
  advice (role: string): string {
    const statements = [...this.#wanted].map(([name, value]) => {
      return `ALTER ROLE ${quotedName(role)} SET ${name} = ${sqlLiteral(value)};`
    })
    return statements.join(' ')
  }

  /**
   * Whether a refused connection is worth one more attempt: a pooler refused the startup parameters (PgBouncer:
   * 08P01), which are sent no more. Of several that are opened at the same time each is refused.
   */
  refused (error: unknown): boolean {
    const { code, message } = error as { code?: unknown, message?: unknown }
    if (!this.#auto || code !== '08P01' || !/startup parameter/i.test(String(message))) return false
    this.#mode = 'transaction'
    return true
  }

  /** Compares what is in force with what was sent, on a new connection. */
  async verify (client: pg.ClientBase, announcedPid: number | null): Promise<Verification> {
    const sent = this.#mode === 'startup' || this.#mode === 'set' ? [...this.#wanted] : []
    // set_config(…, true) ends with the statement; it only spells the wanted value as the server does.
    const columns = sent.flatMap(([name, value], index) => [
      `current_setting('${name}') AS is_${index}`,
      `set_config('${name}', ${sqlLiteral(value)}, true) AS want_${index}`
    ])
    const text = `SELECT ${['pg_backend_pid()::text AS pid', ...columns].join(', ')}`
    const types = asSent as pg.CustomTypesConfig
    const { rows: [row] } = await client.query<Record<string, string>>({ text, types })
    const notApplied = new Map<string, string>()
    sent.forEach(([name], index) => {
      if (row![`is_${index}`] !== row![`want_${index}`]) notApplied.set(name, row![`is_${index}`]!)
    })
    const pooled = announcedPid !== null && Number(row!['pid']) !== announcedPid
    if (this.#auto && (pooled || notApplied.size > 0)) this.#mode = 'transaction'
    return { pooled, notApplied }
  }

  #statements (verb: 'SET' | 'SET LOCAL'): string | null {
    if (this.#wanted.size === 0) return null
    return [...this.#wanted].map(([name, value]) => `${verb} ${name} = ${sqlLiteral(value)}`).join('; ')
  }
}

/** The sources of the values in force, by name of the setting; none where the server does not tell. */
async function sourcesOf (client: pg.ClientBase, names: readonly string[]): Promise<ReadonlyMap<string, string>> {
  try {
    const { rows } = await client.query<{ name: string, source: string }>({
      text: 'SELECT name, source FROM pg_catalog.pg_settings WHERE name = ANY ($1)',
      values: [names],
      types: asSent as pg.CustomTypesConfig
    })
    return new Map(rows.map(({ name, source }) => [name, source]))
  } catch (error) {
    if (isOutage(databaseFailureOf(error))) throw error
    return new Map()
  }
}
