import { SourceUnavailable, startDeadline, type Clock, type Deadline, type LoadRequest, type UserRecord, type UserSource } from '@orientor/session-contract/core'
import { errors } from './errors.js'

/** How a batcher gathers. */
export interface LoadBatcherOptions {
  /** Where users come from; asked for at each batch. Null: nowhere. */
  readonly source: () => UserSource | null
  readonly clock: Clock
  /** How long a batch may take from its sending, in milliseconds. */
  readonly loadTimeoutMs: number
  /** Calls back at the end of this turn of the event loop. Default is setImmediate. */
  readonly nextTurn?: (callback: () => void) => void
  /** Most requests in a batch. Default is 500. */
  readonly maxBatch?: number
  /** Batches on their way from which later requests are gathered. Default is 2. */
  readonly maxInFlight?: number
  /** How long they are gathered at most, in milliseconds, so that nobody waits for a slow provider of others. Default is 20. */
  readonly gatherMs?: number
}

interface Waiting {
  readonly request: LoadRequest
  readonly departed: () => void
  readonly resolve: (record: UserRecord) => void
  readonly reject: (error: unknown) => void
}

/**
 * Sends loads together: what is asked for in one turn of the event loop, and what is asked for while enough batches are on their way.
 * A batch is on its way until the first of its answers is there. A lone load waits for nothing but the end of its turn.
 */
export class LoadBatcher {
  readonly #source: () => UserSource | null
  readonly #clock: Clock
  readonly #loadTimeoutMs: number
  readonly #nextTurn: (callback: () => void) => void
  readonly #maxBatch: number
  readonly #maxInFlight: number
  readonly #gatherMs: number
  readonly #waiting: Waiting[] = []
  #inFlight = 0
  #turnEnds = false
  #gathering = false

  constructor (options: LoadBatcherOptions) {
    this.#source = options.source
    this.#clock = options.clock
    this.#loadTimeoutMs = options.loadTimeoutMs
    this.#nextTurn = options.nextTurn ?? (callback => { setImmediate(callback) })
    this.#maxBatch = options.maxBatch ?? 500
    this.#maxInFlight = options.maxInFlight ?? 2
    this.#gatherMs = options.gatherMs ?? 20
  }

  /**
   * Asks the source for one user, with others.
   *
   * @param departed - called in the instant before the source is asked
   * @returns what the source answers, unchecked; rejects as the source does, with SourceUnavailable at the deadline, with
   *   ORI_CACHE_MALFORMED_BATCH when the source breaks its contract, with ORI_CACHE_NO_SOURCE when there is none
   */
  load (request: LoadRequest, departed: () => void): Promise<UserRecord> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, departed, resolve, reject })
      if (this.#turnEnds) return
      this.#turnEnds = true
      this.#nextTurn(() => {
        this.#turnEnds = false
        this.#send()
      })
    })
  }

  #send (): void {
    while (this.#waiting.length > 0 && this.#inFlight < this.#maxInFlight) this.#sendBatch()
    if (this.#waiting.length === 0 || this.#gathering) return
    this.#gathering = true
    this.#clock.setTimer(() => {
      this.#gathering = false
      if (this.#waiting.length > 0) this.#sendBatch()
      this.#send()
    }, this.#gatherMs)
  }

  #sendBatch (): void {
    const batch = this.#waiting.splice(0, this.#maxBatch)
    const deadline = startDeadline(this.#clock, this.#loadTimeoutMs)
    for (const waiting of batch) waiting.departed()
    let replies: ReadonlyArray<Promise<UserRecord>>
    try {
      replies = this.#ask(batch, deadline)
    } catch (error) {
      deadline.release()
      for (const waiting of batch) waiting.reject(error)
      return
    }

    this.#inFlight++
    let onItsWay = true
    const arrive = (): void => {
      if (!onItsWay) return
      onItsWay = false
      this.#inFlight--
      this.#send()
    }
    let open = batch.length
    const settle = (): void => {
      if (--open === 0) deadline.release()
      arrive()
    }
    deadline.signal.addEventListener('abort', () => {
      const late = new SourceUnavailable(`The source did not answer within ${this.#loadTimeoutMs} ms`, { cause: deadline.signal.reason })
      for (const waiting of batch) waiting.reject(late)
      arrive()
    }, { once: true })
    batch.forEach((waiting, index) => {
      Promise.resolve(replies[index]!).then(waiting.resolve, waiting.reject).finally(settle)
    })
  }

  #ask (batch: readonly Waiting[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>> {
    const source = this.#source()
    if (source === null) throw new errors.NoSource()
    const replies: unknown = source.load(batch.map(waiting => waiting.request), deadline)
    if (Array.isArray(replies) && replies.length === batch.length) return replies as ReadonlyArray<Promise<UserRecord>>
    if (Array.isArray(replies)) for (const reply of replies) Promise.resolve(reply).catch(() => {})
    throw new errors.MalformedBatch(batch.length, Array.isArray(replies) ? `a list of ${replies.length}` : `a value of type ${typeof replies}`)
  }
}
