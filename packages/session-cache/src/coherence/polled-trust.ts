import type { Clock, Timer, UserChange } from '@orientor/session-contract/core'
import type { PollTimes } from './poll-times.js'
import type { Instant, Trust } from './trust.js'

/** The finding of a poll: whether what announces the changes (triggers, their functions, the outbox) is in order. */
export type Finding =
  /**
   * All of that is in order. `signature` differs whenever any of it was absent, however briefly, or the server is
   * another.
   */
  | { readonly signature: string }
  /**
   * Some of that is not in order, so that changes may go unannounced, or the answer was read where it proves
   * nothing.
   */
  | { readonly flaw: string }

/** The answer to a poll, from one snapshot of the database. */
export interface PollAnswer {
  /** Names the snapshot, for the next poll. */
  readonly position: string
  /** The changes that were committed after the position that was asked from, each user once; empty where none was. */
  readonly changes: readonly UserChange[]
  /** The reason why `changes` is not all that was committed after that position; null: it is. */
  readonly gap: string | null
  readonly finding: Finding
  /**
   * Whether what was found is how things were at a position or later. Default: yes, it was read in the answer's own
   * snapshot.
   */
  readonly isFoundAfter?: (position: string) => boolean
  /** The read marks of loads that read what is watched, where it was polled; null: loads are not held against any. */
  readonly marks: ReadonlySet<string> | null
}

/** The dependencies of a polled trust, and its times. */
export interface PolledTrustParts extends PollTimes {
  readonly clock: Clock
  /**
   * Asks for what was committed after a position; null: only where things stand. Rejects when the database cannot be
   * asked, with a PollFailure for a reason of its own.
   */
  readonly ask: (position: string | null) => Promise<PollAnswer>
  /** Takes a change, synchronously. */
  readonly apply: (change: UserChange) => void
  /** Is called after each change of state, and after each proof. */
  readonly changed?: (state: PollState) => void
}

/**
 * The state of a polled trust: `idle` before start(), `trusted` after an answer that goes on or begins an epoch,
 * `waiting` after a poll that was not answered or proves nothing, `doubtful` while what announces is not in order,
 * `closed`.
 */
export interface PollState {
  readonly phase: 'idle' | 'trusted' | 'waiting' | 'doubtful' | 'closed'
  /** One plain sentence; holds no secret. */
  readonly reason: string
}

/** A poll that failed, and why in words that hold no secret. */
export class PollFailure extends Error {}

/** The number of ended epochs whose last proof is kept. */
const rememberedEpochs = 64

/** A poll that was answered and has not proven its instant yet. */
interface Answered {
  readonly sent: Instant
  readonly position: string
}

/** The number of polls that may wait for a finding that proves them; of more the oldest is forgotten. */
const maxAnswered = 64

/**
 * Trust that is renewed by polls. The answer to a poll brings everything that was committed between the snapshot of
 * the last answer and its own, and its own was taken after the poll was sent: so when it has been applied, everything
 * that was committed before the poll was sent has been announced and applied. One poll is on its way at a time; an
 * answer that is late is not read.
 *
 * A poll proves its instant once what announces was found as it was at the beginning of the epoch, in the answer's own
 * snapshot or a later one.
 *
 * An epoch is an unbroken run of answers: each goes on from the snapshot of the one before, with the same signature.
 * It begins with an answer that does not, and that answer proves: what is loaded in the epoch is read after it. Polls
 * that fail do not end an epoch: the next answer goes on from the same snapshot.
 */
export class PolledTrust implements Trust {
  readonly maxStalenessMs: number
  readonly #parts: PolledTrustParts
  readonly #ended = new Map<number, Instant>()
  #epoch = 0
  #marks: ReadonlySet<string> | null = null
  #answered: readonly Answered[] = []
  #provenAtMs = -Infinity
  #provenWallMs = -Infinity
  #state: PollState = { phase: 'idle', reason: 'Not started' }
  #position: string | null = null
  #signature: string | null = null
  #polls = 0
  /** The number of the poll that is on its way; null while none is. */
  #awaited: number | null = null
  #isHurried = false
  #next: Timer | null = null
  #silence: Timer | null = null

  constructor (parts: PolledTrustParts) {
    this.#parts = parts
    this.maxStalenessMs = parts.maxStalenessMs
  }

  get epoch (): number {
    return this.#epoch
  }

  get provenAtMs (): number {
    return this.#provenAtMs
  }

  get provenWallMs (): number {
    return this.#provenWallMs
  }

  get state (): PollState {
    return this.#state
  }

  /** Polls sent so far. */
  get polls (): number {
    return this.#polls
  }

  lastProofOf (epoch: number): Instant | null {
    if (epoch !== this.#epoch) return this.#ended.get(epoch) ?? null
    if (this.#provenAtMs === -Infinity) return null
    return { monotonicMs: this.#provenAtMs, wallMs: this.#provenWallMs }
  }

  covers (readMark: string | undefined): boolean {
    return readMark === undefined || this.#marks === null || this.#marks.has(readMark)
  }

  /** Begins. Again does nothing. */
  start (): void {
    if (this.#state.phase === 'idle' && this.#polls === 0) this.#poll()
  }

  /** Polls now, or as soon as the poll on its way has ended: something was changed, or mended. */
  hurry (): void {
    if (this.#polls === 0 || this.#state.phase === 'closed') return
    if (this.#awaited !== null) this.#isHurried = true
    else this.#poll()
  }

  /** Polls no more. What was proven stays proven, and grows old. */
  close (): void {
    this.#next?.cancel()
    this.#silence?.cancel()
    this.#awaited = null
    this.#become('closed', 'Closed')
  }

  #poll (): void {
    const { clock, ask, pollTimeoutMs } = this.#parts
    this.#next?.cancel()
    this.#isHurried = false
    const n = ++this.#polls
    const sent = { monotonicMs: clock.monotonic(), wallMs: clock.now() }
    this.#awaited = n
    this.#silence = clock.setTimer(() => {
      this.#fail(n, sent, `A poll was not answered within ${pollTimeoutMs} ms`)
    }, pollTimeoutMs)
    ask(this.#position).then(
      answer => { if (this.#awaited === n) this.#conclude(sent, answer) },
      (error: unknown) => {
        this.#fail(n, sent, error instanceof PollFailure ? error.message : 'The database could not be asked')
      }
    )
  }

  #conclude (sent: Instant, { position, changes, gap, finding, marks, isFoundAfter = () => true }: PollAnswer): void {
    this.#silence?.cancel()
    this.#awaited = null
    const isUnbroken = this.#position !== null && gap === null && 'signature' in finding &&
      finding.signature === this.#signature
    // Early is safe, whatever is proven. But where something may be missing, a user may have been created anew, and the
    // revision started again: then it says nothing of what was loaded before.
    for (const change of changes) {
      this.#parts.apply(isUnbroken || change.kind === 'all' ? change : { ...change, revision: null })
    }
    if ('flaw' in finding) {
      // Until it is in order again changes may go unannounced: no answer can go on from this one.
      this.#position = null
      this.#answered = []
      this.#marks = marks ?? this.#marks
      this.#wait(sent)
      this.#become('doubtful', finding.flaw)
      return
    }
    if (!isUnbroken) this.#beginEpoch()
    this.#marks = marks
    this.#position = position
    this.#signature = finding.signature
    this.#prove([...this.#answered, { sent, position }], isFoundAfter)
    this.#wait(sent)
    this.#become('trusted', 'Every change is announced')
  }

  #fail (n: number, sent: Instant, reason: string): void {
    if (this.#awaited !== n) return
    this.#silence?.cancel()
    this.#awaited = null
    this.#wait(sent)
    this.#become('waiting', reason)
  }

  /** Proves the last instant that the finding reaches; polls after it wait for another one. */
  #prove (answered: readonly Answered[], isFoundAfter: (position: string) => boolean): void {
    const last = answered.findLastIndex(({ position }) => isFoundAfter(position))
    this.#answered = answered.slice(Math.max(last + 1, answered.length - maxAnswered))
    if (last === -1) return
    this.#provenAtMs = answered[last]!.sent.monotonicMs
    this.#provenWallMs = answered[last]!.sent.wallMs
  }

  #beginEpoch (): void {
    const last = this.lastProofOf(this.#epoch)
    if (last !== null) this.#ended.set(this.#epoch, last)
    this.#epoch++
    this.#answered = []
    this.#provenAtMs = -Infinity
    this.#provenWallMs = -Infinity
    if (this.#ended.size > rememberedEpochs) this.#ended.delete(this.#ended.keys().next().value!)
  }

  /** The next poll is sent an interval after the last one, at once after hurry() or when it took longer. */
  #wait (sent: Instant): void {
    const { clock, pollIntervalMs } = this.#parts
    const delayMs = this.#isHurried ? 0 : Math.max(0, sent.monotonicMs + pollIntervalMs - clock.monotonic())
    this.#next = clock.setTimer(() => { this.#poll() }, delayMs)
  }

  #become (phase: PollState['phase'], reason: string): void {
    this.#state = Object.freeze({ phase, reason })
    this.#parts.changed?.(this.#state)
  }
}
