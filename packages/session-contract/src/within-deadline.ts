import type { Clock } from './clock.js'
import type { Deadline } from './deadline.js'
import { SourceUnavailable } from './user-source.js'

/**
 * Waits for the work until the deadline.
 *
 * @param what - completes "… did not … in time" for the message
 * @throws SourceUnavailable when the deadline comes first; what the work does later is ignored
 */
export async function withinDeadline<T> (work: Promise<T>, deadline: Deadline, what: string): Promise<T> {
  const { signal } = deadline
  let onAbort = (): void => {}
  const expired = new Promise<never>((_resolve, reject) => {
    onAbort = () => { reject(new SourceUnavailable(`${what} did not answer in time`, { cause: signal.reason })) }
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([work, expired])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** Waits for so many milliseconds, or until the signal aborts. */
export async function pause (clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>(resolve => {
    const end = (): void => {
      timer.cancel()
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = clock.setTimer(end, delayMs)
    signal.addEventListener('abort', end, { once: true })
  })
}
