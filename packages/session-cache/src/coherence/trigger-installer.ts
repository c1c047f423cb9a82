import pg from 'pg'
import { databaseFailureOf, isOutage } from '@orientor/session-contract/core'
import { installSql, pruneSql, type TriggerSet } from '../sql/install-triggers.js'

/** What an installer needs. */
export interface TriggerInstallerOptions {
  readonly connection: pg.ClientConfig
  readonly triggers: TriggerSet
  readonly applicationName: string
  /** How long an attempt may take, in milliseconds. */
  readonly withinMs: number
}

/** What became of an attempt: `later` passes by itself, `refused` needs somebody who may. */
export type Installed = { readonly kind: 'done' } | { readonly kind: 'later' | 'refused', readonly code: string }

/** Puts the triggers in place, over a short connection of its own: a connection that listens must not open a transaction. */
export class TriggerInstaller {
  readonly #options: TriggerInstallerOptions
  #attempt: Promise<Installed> | null = null
  #client: pg.Client | null = null

  constructor (options: TriggerInstallerOptions) {
    this.#options = options
  }

  /** Tries once. Callers that come meanwhile share the attempt. Never rejects. */
  install (): Promise<Installed> {
    this.#attempt ??= this.#run(installSql(this.#options.triggers)).finally(() => { this.#attempt = null })
    return this.#attempt
  }

  /** Removes what no instance needs any more. What is left over costs, and harms nobody: another start will come. Never rejects. */
  async prune (): Promise<void> {
    const { triggers, applicationName } = this.#options
    await this.#attempt
    this.#attempt = this.#run(pruneSql(triggers, applicationName))
    await this.#attempt
    this.#attempt = null
  }

  /** Ends an attempt that is running, and waits for it. */
  async close (): Promise<void> {
    this.#client?.end().catch(() => {})
    await this.#attempt
  }

  async #run (sql: string): Promise<Installed> {
    const { connection, withinMs } = this.#options
    const client = new pg.Client({ ...connection, connectionTimeoutMillis: withinMs, query_timeout: withinMs })
    this.#client = client
    client.on('error', () => {})
    try {
      await client.connect()
      await client.query(sql)
      return { kind: 'done' }
    } catch (error) {
      const { code = 'unknown' } = error as { code?: string }
      const failure = databaseFailureOf(error)
      // 42P01: the table is not there yet.
      const passes = isOutage(failure) || failure === 'aborted' || failure === 'unknown' || code === '42P01'
      return { kind: passes ? 'later' : 'refused', code }
    } finally {
      this.#client = null
      client.end().catch(() => {})
    }
  }
}
