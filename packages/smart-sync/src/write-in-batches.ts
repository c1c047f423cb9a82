import type { Refusal } from './user-store.js'

/** A thing that is kept in step with the provider: its key tells it from others, and orders it among them. */
export interface Keyed {
  readonly key: string
}

/** The answer to one statement over a batch: the outcome of each of its things, or a refusal of them all. */
export type BatchAnswer<R> =
  | { readonly kind: 'done', readonly outcomes: ReadonlyMap<string, R> }
  | Refusal & { readonly kind: 'refused' }

/** The way in which things of one kind are written. */
export interface BatchWriter<T extends Keyed, R> {
  /** The most things of one batch. */
  readonly maxWrites: number
  /** Writes a batch, all of it or nothing. Rejects where it cannot be written at all. */
  write (batch: readonly T[]): Promise<BatchAnswer<R>>
  /** The outcome of a thing that stood alone and was refused; null: it is not decided yet, and has none here. */
  refused (item: T, refusal: Refusal): R | null
  /** The outcome of each thing of a batch whose write was rejected. */
  failed (error: unknown): R
}

/**
 * Writes things, sorted by key, so that instances cannot deadlock, and as many at a time as one statement takes. A
 * batch that is refused for its data is halved until the culprit stands alone, and all others are written. Never
 * rejects: each thing has an outcome of its own.
 *
 * @param items - one per key
 */
export async function writeInBatches<T extends Keyed, R> (
  items: readonly T[], { maxWrites, write, refused, failed }: BatchWriter<T, R>
): Promise<ReadonlyMap<string, R>> {
  const outcomes = new Map<string, R>()

  async function attempt (batch: readonly T[]): Promise<void> {
    try {
      const answer = await write(batch)
      if (answer.kind === 'done') {
        for (const [key, outcome] of answer.outcomes) outcomes.set(key, outcome)
      } else await isolate(batch, answer)
    } catch (error) {
      for (const { key } of batch) if (!outcomes.has(key)) outcomes.set(key, failed(error))
    }
  }

  async function isolate (batch: readonly T[], refusal: Refusal): Promise<void> {
    const [only, ...others] = batch
    if (others.length === 0) {
      const outcome = refused(only!, refusal)
      if (outcome !== null) outcomes.set(only!.key, outcome)
      return
    }
    const middle = Math.ceil(batch.length / 2)
    await attempt(batch.slice(0, middle))
    await attempt(batch.slice(middle))
  }

  const sorted = items.toSorted((a, b) => a.key < b.key ? -1 : 1)
  for (let start = 0; start < sorted.length; start += maxWrites) await attempt(sorted.slice(start, start + maxWrites))
  return outcomes
}
