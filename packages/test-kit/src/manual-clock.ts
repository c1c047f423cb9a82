interface PendingTimer { readonly atMs: number, readonly order: number, readonly callback: () => void }

/**
 * A clock that stands still until a test moves it. Has the shape of the contract's `Clock`; all numbers are milliseconds.
 * The monotonic clock starts at an arbitrary 1,000,000, so that nobody takes it for the wall clock.
 */
export class ManualClock {
  #wallMs: number
  #monotonicMs = 1_000_000
  #order = 0
  readonly #timers = new Set<PendingTimer>()

  /** @param options - `now`: the wall clock at the start; default is 2026-01-01T00:00:00Z */
  constructor ({ now = Date.UTC(2026, 0, 1) }: { readonly now?: number } = {}) {
    this.#wallMs = now
  }

  readonly now = (): number => this.#wallMs
  readonly monotonic = (): number => this.#monotonicMs

  readonly setTimer = (callback: () => void, delayMs: number): { cancel: () => void } => {
    const timer: PendingTimer = { atMs: this.#monotonicMs + Math.max(0, delayMs), order: this.#order++, callback }
    this.#timers.add(timer)
    return { cancel: () => { this.#timers.delete(timer) } }
  }

  /** Timers that have neither fired nor been cancelled. */
  get pendingTimers (): number {
    return this.#timers.size
  }

  /** Moves both clocks forward and fires what falls due, in order of time, each at its own instant. */
  advance (ms: number): void {
    const endMs = this.#monotonicMs + ms
    for (let next = this.#nextDue(endMs); next !== null; next = this.#nextDue(endMs)) {
      this.#timers.delete(next)
      this.#moveTo(Math.max(next.atMs, this.#monotonicMs))
      next.callback()
    }
    this.#moveTo(endMs)
  }

  /** Moves only the wall clock, forward or back, as an operator or NTP does. */
  jump (ms: number): void {
    this.#wallMs += ms
  }

  /** Lets promise callbacks and the immediate queue run until they have had `turns` turns of the event loop. */
  async settle (turns = 5): Promise<void> {
    for (let turn = 0; turn < turns; turn++) await new Promise(resolve => { setImmediate(resolve) })
  }

  #moveTo (monotonicMs: number): void {
    this.#wallMs += monotonicMs - this.#monotonicMs
    this.#monotonicMs = monotonicMs
  }

  #nextDue (endMs: number): PendingTimer | null {
    let next: PendingTimer | null = null
    for (const timer of this.#timers) {
      if (timer.atMs > endMs) continue
      if (next === null || timer.atMs < next.atMs || (timer.atMs === next.atMs && timer.order < next.order)) next = timer
    }
    return next
  }
}
