import { SourceUnavailable, startDeadline, type Clock, type LoadRequest, type UserRecord, type UserSource } from '@orientor/session-contract/core'

/** How a batcher gathers. */
export interface LoadBatcherOptions {
  /** Takes a batch to the source. May throw; must answer with one promise per request. */
  readonly send: UserSource['load']
  readonly clock: Clock
  /** How long a batch may take from its sending, in milliseconds. */
  readonly loadTimeoutMs: number
  /** Calls back at the end of this turn of the event loop. Default is setImmediate. */
  readonly nextTurn?: (callback: () => void) => void
  /** Most requests in a batch. Default is 500. */
  readonly maxBatch?: number
  /** Batches on their way from which later requests are gathered. Default is 2. */
  readonly maxInFlight?: number
  /**
   * The longest time for which they are gathered, in milliseconds, so that no user waits for a slow provider of others.
   * Default is 20.
   * They are gathered for longer while as many users as `maxInFlight` full batches hold have no answer yet: of thousands at
   * once each batch then has its time to itself, and they do not all miss their deadline together.
   */
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
  readonly #ask: UserSource['load']
  readonly #clock: Clock
  readonly #loadTimeoutMs: number
  readonly #nextTurn: (callback: () => void) => void
  readonly #maxBatch: number
  readonly #maxInFlight: number
  readonly #gatherMs: number
  readonly #waiting: Waiting[] = []
  #inFlight = 0
  /** Requests that were sent and have no answer yet. */
  #unanswered = 0
  #turnEnds = false
  #gathering = false

  constructor (options: LoadBatcherOptions) {
    this.#ask = options.send
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
   * @returns what the source answers, unchecked; rejects as `send` throws and the source does, and with SourceUnavailable at the deadline
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

  get #isFull (): boolean {
    return this.#unanswered >= this.#maxInFlight * this.#maxBatch
  }

  #send (): void {
    while (this.#waiting.length > 0 && this.#inFlight < this.#maxInFlight && !this.#isFull) this.#sendBatch()
    if (this.#waiting.length === 0 || this.#gathering) return
    this.#gathering = true
    this.#clock.setTimer(() => {
      this.#gathering = false
      if (this.#waiting.length > 0 && !this.#isFull) this.#sendBatch()
      this.#send()
    }, this.#gatherMs)
  }

  #sendBatch (): void {
    const batch = this.#waiting.splice(0, this.#maxBatch)
    const deadline = startDeadline(this.#clock, this.#loadTimeoutMs)
    for (const waiting of batch) waiting.departed()
    let replies: ReadonlyArray<Promise<UserRecord>>
    try {
      replies = this.#ask(batch.map(waiting => waiting.request), deadline)
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
    this.#unanswered += open
    const settle = (): void => {
      if (open === 0) return
      open--
      this.#unanswered--
      if (open === 0) deadline.release()
      arrive()
    }
    deadline.signal.addEventListener('abort', () => {
      const late = new SourceUnavailable(`The source did not answer within ${this.#loadTimeoutMs} ms`, { cause: deadline.signal.reason })
      for (const waiting of batch) waiting.reject(late)
      this.#unanswered -= open
      open = 0
      arrive()
    }, { once: true })
    batch.forEach((waiting, index) => {
      replies[index]!.then(waiting.resolve, waiting.reject).finally(settle)
    })
  }
}
