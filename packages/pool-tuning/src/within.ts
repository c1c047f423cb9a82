import type { Clock } from '@orientor/session-contract/core'

/**
 * Waits for a promise at most so long, then calls exactly one of the two. The time runs in two halves, so that a stalled event loop, which sees
 * timers before sockets, is not mistaken for a silent server.
 */
export function within (clock: Clock, limitMs: number, promise: Promise<unknown>, then: () => void, otherwise: (timedOut: boolean) => void): void {
  let over = false
  const end = (next: () => void): void => {
    if (over) return
    over = true
    timer.cancel()
    next()
  }
  let timer = clock.setTimer(() => {
    timer = clock.setTimer(() => { end(() => { otherwise(true) }) }, limitMs / 2)
  }, limitMs / 2)
  promise.then(() => { end(then) }, () => { end(() => { otherwise(false) }) })
}
