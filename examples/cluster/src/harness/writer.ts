import pg from 'pg'
import type { Commit } from '../checker/index.js'
import { nameOf, readName, selectNames, updateRow } from './versioned-rows.js'

/** Who hears of the writes. */
export interface WriteListener {
  begin (key: string, version: number): void
  commit (commit: Commit): void
}

const pauseMs = 50

/**
 * Changes users with plain SQL, in the database and past every instance, one write at a time. A write whose connection is lost is looked up
 * until it is known whether it was committed; no version is used twice.
 */
export class Writer {
  readonly #url: string
  readonly #listener: WriteListener
  readonly #versions = new Map<string, number>()
  #update = updateRow
  #client: pg.Client | null = null
  #stopped = false

  constructor (url: string, listener: WriteListener) {
    this.#url = url
    this.#listener = listener
  }

  /** Reads how far the rows have come, and tells the listener. To be called once, first. */
  async start (subjects: readonly string[]): Promise<void> {
    for (const [key, version] of await this.#read(subjects)) {
      const nowMs = performance.now()
      this.#versions.set(key, version)
      this.#listener.begin(key, version)
      this.#listener.commit({ key, version, sentAtMs: nowMs, returnedAtMs: nowMs })
    }
  }

  /**
   * Gives a user the next version. Resolves when that is committed, with the commit, or when it is known that it was not (null); lasts as
   * long as the database cannot be asked.
   */
  async write (key: string): Promise<Commit | null> {
    const version = this.#versions.get(key)! + 1
    this.#versions.set(key, version)
    this.#listener.begin(key, version)
    const sentAtMs = performance.now()
    if (!await this.#updated(key, version)) return null
    const commit = { key, version, sentAtMs, returnedAtMs: performance.now() }
    this.#listener.commit(commit)
    return commit
  }

  /** Writes with another statement from now on, which takes the same parameters; null: with its own again. Resolves when none is under way with the former, unless the connection was lost meanwhile. */
  async writeWith (update: string | null): Promise<void> {
    this.#update = update ?? updateRow
    // Statements of one connection run one after another.
    await (await this.#connected()).query('')
  }

  /** Writes no more and leaves. */
  async stop (): Promise<void> {
    this.#stopped = true
    await this.#leave()
  }

  async #updated (key: string, version: number): Promise<boolean> {
    try {
      const { rowCount } = await (await this.#connected()).query(this.#update, [key, nameOf(key, version), version])
      if (rowCount === 1) return true
    } catch {
      await this.#leave()
    }
    return await this.#isThere(key, version)
  }

  async #isThere (key: string, version: number): Promise<boolean> {
    while (!this.#stopped) {
      try {
        return (await this.#read([key])).get(key) === version
      } catch {
        await this.#leave()
        await new Promise(resolve => { setTimeout(resolve, pauseMs) })
      }
    }
    return false
  }

  async #read (subjects: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const { rows } = await (await this.#connected()).query<{ subject: string, name: string }>(selectNames, [subjects])
    return new Map(rows.map(({ subject, name }) => [subject, readName(name)!.version]))
  }

  async #leave (): Promise<void> {
    const client = this.#client
    this.#client = null
    await client?.end().catch(() => {})
  }

  async #connected (): Promise<pg.Client> {
    if (this.#client !== null) return this.#client
    if (this.#stopped) throw new Error('the writer has stopped')
    const client = new pg.Client({ connectionString: this.#url, application_name: 'cluster writer', connectionTimeoutMillis: 2000, query_timeout: 5000 })
    const forget = (): void => { if (this.#client === client) this.#client = null }
    client.on('error', forget)
    client.on('end', forget)
    await client.connect()
    this.#client = client
    return client
  }
}
