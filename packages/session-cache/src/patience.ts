import type { Clock } from '@orientor/session-contract/core'

/** How long somebody waits. */
export interface Patience {
  /** Resolves with null when it is over; never after release(). */
  readonly isOver: Promise<null>
  release (): void
}

/** Starts to wait. @param patienceMs - from now, in milliseconds */
export function startPatience (clock: Clock, patienceMs: number): Patience {
  let end!: (value: null) => void
  const isOver = new Promise<null>(resolve => { end = resolve })
  const timer = clock.setTimer(() => { end(null) }, patienceMs)
  return { isOver, release: () => { timer.cancel() } }
}
