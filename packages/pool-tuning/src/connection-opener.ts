import type { Clock } from '@orientor/session-contract/core'
import { errors } from './errors.js'
import { markUnsent } from './mark-unsent.js'

/** Opens a connection; `lost` is to be called once when it dies by itself. Must reject, and cut the socket, when the signal aborts. */
export type Open<C> = (lost: (connection: C) => void, signal: AbortSignal) => Promise<C>

/** What an opener needs from outside. */
export interface OpenerPorts<C> {
  readonly clock: Clock
  /** From 0 to 1. */
  readonly random: () => number
  readonly open: Open<C>
}

/** What an opener tells. */
export interface OpenerEvents<C> {
  readonly opened: (connection: C) => void
  /** @param startedAtMs - when the attempt began, on the monotonic clock */
  readonly failed: (error: Error, startedAtMs: number) => void
  /** An opened connection died by itself. */
  readonly lost: (connection: C) => void
  /** The pause after a failure is over. */
  readonly rested: () => void
}

const backoffMs = { first: 50, most: 500 }
/** A server that is full stays so for a while. */
const fullPauseMs = { least: 500, most: 1000 }

/**
 * Opens connections, a few at a time, each within a limit of its own, and rests after a failure: with full jitter, longer with each failure in a row,
 * so that many processes do not come back to a server in step.
 */
export class ConnectionOpener<C extends { destroy (): void }> {
  readonly #limitMs: number
  readonly #ramp: number
  readonly #ports: OpenerPorts<C>
  readonly #events: OpenerEvents<C>
  readonly #attempts = new Set<AbortController>()
  #failuresInARow = 0
  #restsUntilMs = -Infinity
  #opened = 0
  #failures = 0
  #lastError: Error | null = null

  /**
   * @param limitMs - for one connection
   * @param ramp - how many may be opened at the same time
   */
  constructor (limitMs: number, ramp: number, ports: OpenerPorts<C>, events: OpenerEvents<C>) {
    this.#limitMs = limitMs
    this.#ramp = ramp
    this.#ports = ports
    this.#events = events
  }

  /** Connections that are being opened. */
  get opening (): number {
    return this.#attempts.size
  }

  get counts (): { readonly opened: number, readonly openFailures: number } {
    return { opened: this.#opened, openFailures: this.#failures }
  }

  /** Why the last connection could not be opened; null once one could. */
  get lastError (): Error | null {
    return this.#lastError
  }

  get isBusy (): boolean {
    return this.#attempts.size >= this.#ramp
  }

  get isResting (): boolean {
    return this.#ports.clock.monotonic() < this.#restsUntilMs
  }

  open (): void {
    const { clock } = this.#ports
    const startedAtMs = clock.monotonic()
    const controller = new AbortController()
    const { signal } = controller
    this.#attempts.add(controller)
    const timer = clock.setTimer(() => {
      controller.abort(markUnsent(new errors.ConnectTimeout(this.#limitMs)))
    }, this.#limitMs)
    // The place is taken back when the limit passes, even from an opener that does not hear the signal.
    const aborted = new Promise<never>((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        const reason: Error = signal.reason
        reject(reason)
      }, { once: true })
    })
    let isOpen = false
    let isStillborn = false
    const opening = this.#ports.open(connection => {
      if (isOpen) this.#events.lost(connection)
      else isStillborn = true
    }, signal)
    Promise.race([opening, aborted]).then(connection => {
      if (isStillborn) throw markUnsent(new Error('The connection ended before it was ready.'))
      timer.cancel()
      this.#attempts.delete(controller)
      isOpen = true
      this.#opened++
      this.#failuresInARow = 0
      this.#restsUntilMs = -Infinity
      this.#lastError = null
      this.#events.opened(connection)
    }).catch((error: Error) => {
      timer.cancel()
      opening.then(late => { late.destroy() }, () => {})
      if (this.#attempts.delete(controller)) this.#failed(error, startedAtMs)
    })
  }

  /** Gives every attempt up; none of them is told as a failure of the server. */
  abort (reason: Error): void {
    const attempts = [...this.#attempts]
    this.#attempts.clear()
    for (const attempt of attempts) attempt.abort(reason)
  }

  #failed (error: Error, startedAtMs: number): void {
    const { clock, random } = this.#ports
    this.#failures++
    this.#lastError = error
    this.#failuresInARow++
    const isFull = (error as { code?: unknown }).code === '53300'
    const restMs = isFull
      ? fullPauseMs.least + (fullPauseMs.most - fullPauseMs.least) * random()
      : Math.min(backoffMs.most, backoffMs.first * 2 ** Math.min(10, this.#failuresInARow)) * random()
    this.#restsUntilMs = Math.max(this.#restsUntilMs, clock.monotonic() + restMs)
    clock.setTimer(this.#events.rested, restMs)
    this.#events.failed(error, startedAtMs)
  }
}
