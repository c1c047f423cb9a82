import type { Deadline } from '@orientor/session-contract/core'
import { failed, notStored, type Failed } from './apply-updates.js'
import type { DeletionPolicy, Refusal, StoredUser, UserKey, UserStore } from './user-store.js'
import { writeInBatches, type BatchAnswer } from './write-in-batches.js'

/** The outcome of one deletion. */
export type Removed =
  | {
    readonly kind: 'removed'
    /** The row that was marked now; null: there was none, or it was marked before. */
    readonly marked: StoredUser | null
    /** The reason why the row could not be removed under the policy `delete`, and stays marked; null: it could. */
    readonly refusal: Refusal | null
  }
  | Failed

/**
 * Stores deletions: a tombstone each, and rows marked as deleted; under the policy `delete` the rows are then removed.
 * A row that cannot be removed, because another table refers to it, stays marked. Never rejects.
 *
 * @param keys - one per user
 */
export async function applyDeletions (
  store: UserStore, keys: readonly UserKey[], policy: DeletionPolicy, deadline: Deadline
): Promise<ReadonlyMap<string, Removed>> {
  const { maxWrites } = store
  const mark = async (batch: readonly UserKey[]): Promise<BatchAnswer<Removed>> => {
    const answer = await store.markDeleted(batch, deadline)
    if (answer.kind === 'refused') return answer
    return outcomesOf(batch, ({ key }) => {
      return { kind: 'removed', marked: answer.written.get(key)?.user ?? null, refusal: null }
    })
  }
  const refused = (_key: UserKey, refusal: Refusal): Removed => notStored(refusal)
  const marked = await writeInBatches(keys, { maxWrites, write: mark, refused, failed })
  if (policy === 'deactivate') return marked

  const remove = async (batch: readonly UserKey[]): Promise<BatchAnswer<Removed>> => {
    const answer = await store.deleteMarked(batch, deadline)
    return answer.kind === 'refused' ? answer : outcomesOf(batch, ({ key }) => marked.get(key)!)
  }
  const removed = await writeInBatches(keys.filter(({ key }) => marked.get(key)!.kind === 'removed'), {
    maxWrites,
    write: remove,
    refused: ({ key }, refusal): Removed => ({ marked: null, ...marked.get(key)!, kind: 'removed', refusal }),
    failed
  })
  return new Map([...marked, ...removed])
}

function outcomesOf (batch: readonly UserKey[], outcome: (key: UserKey) => Removed): BatchAnswer<Removed> {
  return { kind: 'done', outcomes: new Map(batch.map(key => [key.key, outcome(key)])) }
}
