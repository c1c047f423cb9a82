/** What the end can come from; the process has it. */
export interface Endings {
  on (signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP', callback: () => void): unknown
  readonly env: Readonly<Record<string, string | undefined>>
  readonly ppid: number
}

/** Tells once that it is time to end: a signal, the time, a key, or npm that is gone. */
export class Ending {
  readonly over: Promise<void>
  #end!: () => void
  #isOver = false

  constructor (surroundings: Endings) {
    this.over = new Promise(resolve => {
      this.#end = () => {
        this.#isOver = true
        resolve()
      }
    })
    // Kept: npm passes Ctrl-C on, so that it comes twice.
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) surroundings.on(signal, this.#end)
    // npm ends its shell on SIGTERM, and the shell tells nobody: seen by the parent having changed.
    const { env, ppid } = surroundings
    if (env['npm_lifecycle_event'] !== undefined) setInterval(() => { if (surroundings.ppid !== ppid) this.#end() }, 500).unref()
  }

  get isOver (): boolean {
    return this.#isOver
  }

  end (): void {
    this.#end()
  }

  after (seconds: number): void {
    setTimeout(this.#end, seconds * 1000).unref()
  }
}
