import pg from 'pg'
import type { Commit } from '../checker/index.js'
import { nameOf, readName, selectNames, updateRow } from './versioned-rows.js'
import { plainly, type Write } from './write.js'

/** Who hears of the writes. */
export interface WriteListener {
  begin (key: string, version: number): void
  commit (commit: Commit): void
}

const pauseMs = 50
const own: Write = plainly(updateRow)

/**
 * Changes users with plain SQL, in the database and past every instance, one write of a user at a time. A write whose
 * connection is lost is looked up until it is known whether it was committed; no version is used twice.
 */
export class Writer {
  readonly #listener: WriteListener
  readonly #versions = new Map<string, number>()
  readonly #underway = new Set<Promise<Commit | null>>()
  #write = own
  #pool: pg.Pool
  #held: Promise<void> | null = null
  #stopped = false

  constructor (url: string, listener: WriteListener) {
    this.#pool = poolTo(url)
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
    while (this.#held !== null) await this.#held
    const writing = this.#next(key)
    this.#underway.add(writing)
    return await writing.finally(() => { this.#underway.delete(writing) })
  }

  /** Writes in another way from now on; null: in its own again. Resolves when no write is under way in the former. */
  async writeWith (write: Write | null): Promise<void> {
    await this.whileHeld(async () => { this.#write = write ?? own })
  }

  /** Does something while no write is under way. */
  async whileHeld (work: () => Promise<void>): Promise<void> {
    let release = (): void => {}
    this.#held = new Promise(resolve => { release = resolve })
    try {
      await Promise.all(this.#underway)
      await work()
    } finally {
      this.#held = null
      release()
    }
  }

  /** The names that rows were given last, for a database that is to take over. */
  get names (): ReadonlyMap<string, string> {
    return new Map([...this.#versions].map(([key, version]) => [key, nameOf(key, version)]))
  }

  /** Writes to another database from now on. */
  moveTo (url: string): void {
    const former = this.#pool
    this.#pool = poolTo(url)
    former.end().catch(() => {})
  }

  /** Writes no more and leaves. */
  async stop (): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#underway)
    await this.#pool.end()
  }

  async #next (key: string): Promise<Commit | null> {
    const version = this.#versions.get(key)! + 1
    this.#versions.set(key, version)
    this.#listener.begin(key, version)
    const sentAtMs = performance.now()
    if (!await this.#updated(key, version)) return null
    const commit = { key, version, sentAtMs, returnedAtMs: performance.now() }
    this.#listener.commit(commit)
    return commit
  }

  async #updated (key: string, version: number): Promise<boolean> {
    try {
      if (await this.#write(this.#pool, [key, nameOf(key, version), version]) === 1) return true
    } catch {}
    return await this.#isThere(key, version)
  }

  async #isThere (key: string, version: number): Promise<boolean> {
    while (!this.#stopped) {
      try {
        return (await this.#read([key])).get(key) === version
      } catch {
        await new Promise(resolve => { setTimeout(resolve, pauseMs) })
      }
    }
    return false
  }

  async #read (subjects: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const { rows } = await this.#pool.query<{ subject: string, name: string }>(selectNames, [subjects])
    return new Map(rows.map(({ subject, name }) => [subject, readName(name)!.version]))
  }
}

function poolTo (url: string): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url, application_name: 'cluster writer', max: 8, connectionTimeoutMillis: 2000, query_timeout: 5000
  })
  pool.on('error', () => {})
  pool.on('connect', client => { client.on('error', () => {}) })
  return pool
}
