import type { Clock } from './clock.js'

/** The instant by which an operation must have ended, and the signal that fires then. Handed down unchanged from caller to callee. */
export interface Deadline {
  /** On the monotonic clock (`Clock.monotonic()`), in milliseconds. */
  readonly atMs: number
  /** Aborted when the deadline passes or the caller gives up. */
  readonly signal: AbortSignal
}

/** A deadline with the hand that can end it early. */
export interface OwnedDeadline extends Deadline {
  /** Releases the timer without aborting; to be called when the operation has ended. */
  release (): void
}

/**
 * Starts a deadline `afterMs` milliseconds from now. Its signal aborts with a `TimeoutError` DOMException.
 *
 * @param clock - supplies the monotonic instant and the timer
 * @param afterMs - from now, in milliseconds
 */
export function startDeadline (clock: Clock, afterMs: number): OwnedDeadline {
  const controller = new AbortController()
  const timer = clock.setTimer(() => {
    controller.abort(new DOMException(`The operation did not end within ${afterMs} ms`, 'TimeoutError'))
  }, afterMs)
  return { atMs: clock.monotonic() + afterMs, signal: controller.signal, release: () => { timer.cancel() } }
}
