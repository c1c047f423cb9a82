import { SourceUnavailable, startDeadline, type Clock, type Deadline, type LoadRequest, type Timer, type UserRecord, type UserSource } from '@orientor/session-contract/core'
import { channels } from './channels.js'
import { errors } from './errors.js'

/** What a gate is made of. */
export interface SourceGateParts {
  /** Where users come from; asked for at each batch. Null: nowhere. */
  readonly source: () => UserSource | null
  readonly clock: Clock
  /** From 0 to 1, for the time between two probes. */
  readonly random: () => number
  /** How long a probe may take, in milliseconds. */
  readonly loadTimeoutMs: number
}

/** What a gate counted since it was made. */
export type GateStats = Readonly<{
  /** 1 while the circuit is open. */
  circuitOpen: number
  /** How often it opened. */
  circuitOpenings: number
  /** Probes that were sent. */
  circuitProbes: number
  /** Requests that were turned away. */
  circuitRefusals: number
}>

/** Failures in a row that open the gate. */
const inARow = 0b11111
/** The batches that are remembered, one bit each: set when it failed. More than half of them failed opens the gate, too. */
const remembered = 0xfffff
const mostFailures = 10
/** The time between the end of a probe and the next one, in milliseconds, at least, and how much chance adds to it at most. */
const probeAfterMs = 250
const probeSpreadMs = 250

/**
 * The way to the source, and the only caller of it: a circuit breaker. Five batches in a row that failed, or more than half of the last 20,
 * open the circuit: `isOpen`. Nobody waits for the source then; one user is asked for at once, and again 250 to 500 ms after each failure of
 * that, until an answer closes the circuit.
 *
 * A batch failed when each of its answers was SourceUnavailable, or none came before its deadline. A defect is an answer: the source is there.
 */
export class SourceGate {
  readonly #parts: SourceGateParts
  #isOpen = false
  #openings = 0
  #probes = 0
  #refusals = 0
  #results = 0
  /** Counts the closings: what was asked before the last one says nothing about now. */
  #era = 0
  /** Whom the next probe asks for. The last one who was turned away, so that no single user can keep the circuit open. */
  #candidate: LoadRequest | null = null
  #failure: unknown
  #timer: Timer | null = null
  #stopped = false

  constructor (parts: SourceGateParts) {
    this.#parts = parts
  }

  /** Whether the source is known not to be had: everything is turned away. */
  get isOpen (): boolean {
    return this.#isOpen
  }

  /** Why the source could not be asked the last time; undefined when it did not say, or the circuit has closed since. */
  get failure (): unknown {
    return this.#failure
  }

  /**
   * Asks the source, unless the circuit is open. One promise per request, in order.
   *
   * @throws what the source throws, ORI_CACHE_MALFORMED_BATCH when it breaks its contract, ORI_CACHE_NO_SOURCE when there is none
   */
  load (batch: readonly LoadRequest[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>> {
    if (this.#isOpen) return batch.map(request => Promise.reject(this.refuse(request)))
    return this.#ask(batch, deadline)
  }

  /** What a request is told that is turned away. */
  refuse (request: LoadRequest): SourceUnavailable {
    this.#refusals++
    this.#candidate = request
    return new SourceUnavailable('The source of users failed repeatedly and is being probed', this.#failure === undefined ? {} : { cause: this.#failure })
  }

  stats (): GateStats {
    return { circuitOpen: this.#isOpen ? 1 : 0, circuitOpenings: this.#openings, circuitProbes: this.#probes, circuitRefusals: this.#refusals }
  }

  /** Sends no further probe. */
  stop (): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  #ask (batch: readonly LoadRequest[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>> {
    let replies: ReadonlyArray<Promise<UserRecord>>
    try {
      replies = callSource(this.#parts.source(), batch, deadline)
    } catch (error) {
      this.#note(this.#isAnswer(error), batch[0]!)
      throw error
    }
    const era = this.#era
    let open = replies.length
    let told = false
    const tell = (reached: boolean): void => {
      if (told) return
      told = true
      if (era === this.#era) this.#note(reached, batch[0]!)
    }
    const unavailable = (): void => { if (--open === 0) tell(false) }
    deadline.signal.addEventListener('abort', () => { tell(false) }, { once: true })
    for (const reply of replies) {
      reply.then(() => { tell(true) }, (error: unknown) => {
        if (this.#isAnswer(error)) tell(true)
        else unavailable()
      })
    }
    return replies
  }

  #note (reached: boolean, request: LoadRequest): void {
    if (this.#isOpen) {
      if (reached) this.#close()
      return
    }
    this.#results = ((this.#results << 1) | (reached ? 0 : 1)) & remembered
    if ((this.#results & inARow) !== inARow && bitsOf(this.#results) <= mostFailures) return
    this.#isOpen = true
    this.#openings++
    this.#candidate = request
    if (channels.gate.hasSubscribers) channels.gate.publish({ state: 'open' })
    this.#probe()
  }

  #close (): void {
    this.#isOpen = false
    this.#era++
    this.#results = 0
    this.#candidate = null
    this.#failure = undefined
    this.#timer?.cancel()
    if (channels.gate.hasSubscribers) channels.gate.publish({ state: 'closed' })
  }

  #probe (): void {
    if (this.#stopped || !this.#isOpen) return
    this.#probes++
    const deadline = startDeadline(this.#parts.clock, this.#parts.loadTimeoutMs)
    const era = this.#era
    let over = false
    const end = (reached: boolean): void => {
      if (over) return
      over = true
      deadline.release()
      if (era !== this.#era) return
      if (reached) this.#close()
      else this.#timer = this.#parts.clock.setTimer(() => { this.#probe() }, probeAfterMs + probeSpreadMs * this.#parts.random())
    }
    deadline.signal.addEventListener('abort', () => { end(false) }, { once: true })
    try {
      // With the identity that was refused: without it a user who has no row yet could be had from the provider only, which may be down as well.
      const [reply] = callSource(this.#parts.source(), [{ ...this.#candidate!, force: false }], deadline)
      reply!.then(() => { end(true) }, (error: unknown) => { end(this.#isAnswer(error)) })
    } catch (error) {
      end(this.#isAnswer(error))
    }
  }

  /** A defect is an answer: the source is there. */
  #isAnswer (error: unknown): boolean {
    if (!(error instanceof SourceUnavailable)) return true
    this.#failure = error
    return false
  }
}

function callSource (source: UserSource | null, batch: readonly LoadRequest[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>> {
  if (source === null) throw new errors.NoSource()
  const answer: unknown = source.load(batch, deadline)
  const replies = Array.isArray(answer) ? answer.map(reply => Promise.resolve(reply as Promise<UserRecord>)) : null
  if (replies?.length === batch.length) return replies
  for (const reply of replies ?? []) reply.catch(() => {})
  throw new errors.MalformedBatch(batch.length, replies === null ? `a value of type ${typeof answer}` : `a list of ${replies.length}`)
}

function bitsOf (results: number): number {
  let bits = 0
  for (let rest = results; rest !== 0; rest &= rest - 1) bits++
  return bits
}
