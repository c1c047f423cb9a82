import type { ManualClock } from '@orientor/test-kit'

/** What a listener is sent. */
export type Message = { readonly kind: 'change', readonly key: string } | { readonly kind: 'echo', readonly sentAtMs: number }

/** One LISTEN connection: delivers in order, each message some time after it was sent, unless it has gone silent or was closed. */
export class SimulatedLink {
  state: 'open' | 'half-open' | 'closed' = 'open'
  readonly #clock: ManualClock
  readonly #delayMs: () => number
  readonly #deliver: (message: Message) => void
  #lastMs = 0

  constructor (clock: ManualClock, delayMs: () => number, deliver: (message: Message) => void) {
    this.#clock = clock
    this.#delayMs = delayMs
    this.#deliver = deliver
  }

  send (message: Message): void {
    if (this.state !== 'open') return
    const nowMs = this.#clock.monotonic()
    this.#lastMs = Math.max(this.#lastMs, nowMs + this.#delayMs())
    this.#clock.setTimer(() => { if (this.state === 'open') this.#deliver(message) }, this.#lastMs - nowMs)
  }
}

/** Rows that hold a version, and the announcements of their changes in the order of the commits. */
export class SimulatedDatabase {
  readonly links = new Set<SimulatedLink>()
  readonly #versions = new Map<string, number>()

  versionOf (key: string): number {
    return this.#versions.get(key) ?? 0
  }

  commit (key: string, version: number): void {
    this.#versions.set(key, version)
    for (const link of this.links) link.send({ kind: 'change', key })
  }
}
