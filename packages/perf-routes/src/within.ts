import type { Clock, Sync } from '@orientor/session-contract/core'

/** How long a component is waited for, in milliseconds. */
const patienceMs = 2000

/**
 * What `ask` answers, if it answers within patienceMs; an answer that comes later is dropped.
 *
 * @throws what `ask` throws or rejects with; a `TimeoutError` DOMException when the time is over
 */
export function within<T> (clock: Clock, ask: () => Sync<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimer(() => { reject(new DOMException(`No answer within ${patienceMs} ms`, 'TimeoutError')) }, patienceMs)
    Promise.resolve().then(ask).finally(() => { timer.cancel() }).then(resolve, reject)
  })
}
