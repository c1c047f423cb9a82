import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { updateSql, type Updates } from './updates.js'

/** Options of a load. */
export interface LoadOptions {
  readonly url: string
  readonly updates: Updates
  readonly writers: number
  readonly synchronousCommit: 'on' | 'off'
  /** Whether pgbench makes it; else a process of Node.js. */
  readonly pgbench: boolean
}

const worker = fileURLToPath(new URL('./worker.js', import.meta.url))

/** The line in which pgbench says its version; null: it is not on the PATH. */
export function pgbenchVersion (): string | null {
  const { status, stdout } = spawnSync('pgbench', ['--version'], { encoding: 'utf8' })
  return status === 0 ? stdout.trim() : null
}

/**
 * Writers in a process of their own that update a row at a time, as fast as they can, but only during run(): between
 * them the process is stopped by a signal. So its sessions stay, and with them what they have prepared, and several
 * loads take turns without starting anew.
 */
export class Load {
  readonly #process: ChildProcess
  readonly #folder: string
  #said = ''
  readonly #kill = (): void => { this.#process.kill('SIGKILL') }

  constructor ({ url, updates, writers, synchronousCommit, pgbench }: LoadOptions) {
    const { hostname, port, username, password, pathname } = new URL(url)
    this.#folder = mkdtempSync(join(tmpdir(), 'orientor-writers-'))
    const script = join(this.#folder, 'update.sql')
    writeFileSync(script, `\\set number random(1, ${updates.rows})\n${updateSql(updates, ':number')};\n`)
    const env = {
      ...process.env,
      PGHOST: hostname,
      PGPORT: port,
      PGUSER: username,
      PGPASSWORD: decodeURIComponent(password),
      PGDATABASE: pathname.slice(1),
      PGOPTIONS: `-c synchronous_commit=${synchronousCommit}`
    }
    const [command, args] = pgbench
      ? ['pgbench', ['-n', '-M', 'prepared', '-T', '86400', '-c', String(writers), '-j', '1', '-f', script]]
      : [process.execPath, [worker, JSON.stringify({ updates, writers })]]
    this.#process = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'pipe'] })
    this.#process.stderr?.on('data', (data: Buffer) => { this.#said = (this.#said + String(data)).slice(-2000) })
    process.on('exit', this.#kill)
  }

  /**
   * Lets the writers work; resolves with the time that they did, in seconds.
   *
   * @throws Error when they have ended by themselves
   */
  async run (ms: number): Promise<number> {
    const before = process.hrtime.bigint()
    this.#process.kill('SIGCONT')
    await new Promise(resolve => { setTimeout(resolve, ms) })
    if (this.#process.exitCode !== null) throw new Error(`The writers ended by themselves: ${this.#said}`)
    this.#process.kill('SIGSTOP')
    return Number(process.hrtime.bigint() - before) / 1e9
  }

  async stop (): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const gone = new Promise(resolve => { this.#process.once('exit', resolve) })
      this.#kill()
      await gone
    }
    process.off('exit', this.#kill)
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
