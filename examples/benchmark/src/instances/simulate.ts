import { seeded } from '../measure/random.js'

/** The instances and the server that are simulated. */
export interface SimulationOptions {
  readonly instances: number
  readonly pollIntervalMs: number
  /** The server's CPU time for one poll, in milliseconds, as it was measured. */
  readonly pollCpuMs: number
  /** The server's CPU time for one check-in, in milliseconds; each instance does one in 20 seconds. */
  readonly checkInCpuMs: number
  /** Cores of the server that are free for this. */
  readonly cores: number
  readonly seconds: number
}

/** The result of a simulation. */
export interface SimulationResult {
  /** The share of the cores that is in use, from 0 to 1. */
  readonly useRatio: number
  /**
   * The median of the times that polls take, waiting for a core included, in milliseconds; then their 99th percentile.
   */
  readonly p50Ms: number
  readonly p99Ms: number
  /** The share of polls that were answered after more than `pollTimeoutMs`. */
  readonly lateRatio: number
}

const pollTimeoutMs = 2000
const checkInIntervalMs = 20_000

/**
 * Simulates instances that poll a server whose cores take one statement after another, in the order of arrival. Each
 * polls an interval after its last poll was sent, or at once where the answer took longer; each begins at an instant
 * of its own.
 */
export function simulate (options: SimulationOptions): SimulationResult {
  const { instances, pollIntervalMs, pollCpuMs, checkInCpuMs, cores, seconds } = options
  const random = seeded(1)
  const freeAtMs = new Float64Array(cores)
  const due: Array<{ atMs: number, readonly everyMs: number, readonly cpuMs: number }> = []
  for (let instance = 0; instance < instances; instance++) {
    due.push({ atMs: random() * pollIntervalMs, everyMs: pollIntervalMs, cpuMs: pollCpuMs })
    due.push({ atMs: random() * checkInIntervalMs, everyMs: checkInIntervalMs, cpuMs: checkInCpuMs })
  }
  const queue = new Due(due)
  const times: number[] = []
  let busyMs = 0
  for (let next = queue.take(); next.atMs < seconds * 1000; next = queue.take()) {
    let core = 0
    for (let other = 1; other < cores; other++) if (freeAtMs[other]! < freeAtMs[core]!) core = other
    // The time of a statement varies: exponentially, by half of it.
    const cpuMs = next.cpuMs / 2 * (1 - Math.log(1 - random()))
    const endMs = Math.max(next.atMs, freeAtMs[core]!) + cpuMs
    freeAtMs[core] = endMs
    busyMs += cpuMs
    if (next.everyMs === pollIntervalMs) times.push(endMs - next.atMs)
    next.atMs = Math.max(next.atMs + next.everyMs, endMs)
    queue.put(next)
  }
  const sorted = Float64Array.from(times).sort()
  return {
    useRatio: Math.min(1, busyMs / (cores * seconds * 1000)),
    p50Ms: sorted[sorted.length >>> 1]!,
    p99Ms: sorted[Math.floor(sorted.length * 0.99)]!,
    lateRatio: times.filter(ms => ms > pollTimeoutMs).length / times.length
  }
}

/** The statements that are due, the earliest first: a binary heap. */
class Due<T extends { readonly atMs: number }> {
  readonly #heap: T[] = []

  constructor (items: readonly T[]) {
    for (const item of items) this.put(item)
  }

  put (item: T): void {
    const heap = this.#heap
    let place = heap.push(item) - 1
    for (let above = (place - 1) >> 1; place > 0 && heap[above]!.atMs > item.atMs; above = (place - 1) >> 1) {
      heap[place] = heap[above]!
      place = above
    }
    heap[place] = item
  }

  take (): T {
    const heap = this.#heap
    const first = heap[0]!
    const item = heap.pop()!
    if (heap.length === 0) return first
    let place = 0
    for (;;) {
      let below = 2 * place + 1
      if (below >= heap.length) break
      if (below + 1 < heap.length && heap[below + 1]!.atMs < heap[below]!.atMs) below++
      if (heap[below]!.atMs >= item.atMs) break
      heap[place] = heap[below]!
      place = below
    }
    heap[place] = item
    return first
  }
}
