import { startDeadline, type Clock } from '@orientor/session-contract/core'

/**
 * Runs work that must end within a time.
 *
 * @param work - is given a signal that aborts when the time is over
 * @throws what the work throws; or that there was no answer in time, also when the work ignores its signal
 */
export async function withTimeout<T> (clock: Clock, timeoutMs: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const deadline = startDeadline(clock, timeoutMs)
  const expired = new Promise<never>((_resolve, reject) => {
    deadline.signal.addEventListener('abort', () => { reject(new Error(`it did not answer within ${timeoutMs} ms`)) }, { once: true })
  })
  try {
    return await Promise.race([work(deadline.signal), expired])
  } finally {
    deadline.release()
  }
}
