import { Socket } from 'node:net'
import pg from 'pg'
import { databaseFailureOf, isOutage } from '@orientor/session-contract/core'
import { installSql } from '../sql/install-triggers.js'
import { pruneSql } from '../sql/prune-triggers.js'
import type { TriggerSet } from '../sql/trigger-set.js'
import { clientConfig } from './client-config.js'

/** What an installer needs. */
export interface TriggerInstallerOptions {
  readonly connection: pg.ClientConfig
  readonly triggers: TriggerSet
  /** How long an attempt may take, in milliseconds. */
  readonly withinMs: number
}

/** What became of an attempt: `later` passes by itself, `refused` needs somebody who may. */
export type Installed = { readonly kind: 'done' } | { readonly kind: 'later' | 'refused', readonly code: string }

/** Puts the triggers in place, over a short connection of its own: a connection that listens must not open a transaction. */
export class TriggerInstaller {
  readonly #options: TriggerInstallerOptions
  /** What is under way, and what waits for it: one after another. */
  #last: Promise<unknown> = Promise.resolve()
  #socket: Socket | null = null
  #closed = false

  constructor (options: TriggerInstallerOptions) {
    this.#options = options
  }

  /** Tries once. Never rejects. */
  install (): Promise<Installed> {
    return this.#enqueue(installSql(this.#options.triggers))
  }

  /** Removes what no instance needs any more. What is left over costs, and harms nobody: another start will come. Never rejects. */
  async prune (): Promise<void> {
    await this.#enqueue(pruneSql(this.#options.triggers))
  }

  /** Ends what is under way, begins nothing any more, and waits. */
  async close (): Promise<void> {
    this.#closed = true
    // Not by ending the client: one that is still connecting would never tell that it has ended.
    this.#socket?.destroy()
    await this.#last
  }

  #enqueue (sql: string): Promise<Installed> {
    const next = this.#last.then(() => this.#run(sql))
    this.#last = next
    return next
  }

  async #run (sql: string): Promise<Installed> {
    if (this.#closed) return { kind: 'later', code: 'closed' }
    const { connection, withinMs } = this.#options
    const socket = new Socket()
    this.#socket = socket
    try {
      // In here: it may read the files of certificates.
      const client = new pg.Client({ ...clientConfig(connection), connectionTimeoutMillis: withinMs, query_timeout: withinMs, stream: () => socket })
      client.on('error', () => {})
      await client.connect()
      await client.query(sql)
      client.end().catch(() => {})
      return { kind: 'done' }
    } catch (error) {
      const { code = 'unknown' } = error as { code?: string }
      const failure = databaseFailureOf(error)
      // 42P01: the table is not there yet.
      const passes = isOutage(failure) || failure === 'aborted' || failure === 'unknown' || code === '42P01'
      return { kind: passes ? 'later' : 'refused', code }
    } finally {
      this.#socket = null
      socket.destroySoon()
    }
  }
}
