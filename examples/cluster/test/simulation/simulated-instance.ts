import type { ManualClock } from '@orientor/test-kit'
import { SimulatedLink, type Message, type SimulatedDatabase } from './simulated-database.js'

/** The parts of a design that can be left out. */
export interface Design {
  /** Hears of changes at all. Without: entries live until they expire. */
  readonly listens: boolean
  /** A load that began before an announcement is not stored after it. */
  readonly floors: boolean
  /** Asks for an echo through the queue; without one in time the connection counts as broken, and entries count as fresh only as long as the last echo proves. */
  readonly heartbeat: boolean
  /** What was loaded before a reconnect is not trusted after it. */
  readonly epochs: boolean
}

export const leased: Design = { listens: true, floors: true, heartbeat: true, epochs: true }

/** Time limits of all designs, in milliseconds. */
export const limits = { maxStalenessMs: 2000, expireAfterMs: 60_000, heartbeatMs: 400, echoWithinMs: 800, reconnectAfterMs: 200 }

interface Entry { readonly version: number, readonly loadedAtMs: number, readonly epoch: number }
interface Flight { readonly begunAtMs: number, readonly waiters: Array<(version: number) => void> }
interface Delays { readonly loadMs: () => number, readonly messageMs: () => number }

/** An instance that keeps users in memory by one design. Everything happens on the simulated clock. */
export class SimulatedInstance {
  link!: SimulatedLink
  /** Refuses new connections while set. */
  unreachable = false
  readonly #design: Design
  readonly #clock: ManualClock
  readonly #database: SimulatedDatabase
  readonly #delays: Delays
  readonly #entries = new Map<string, Entry>()
  readonly #flights = new Map<string, Flight>()
  #epoch = 0
  #provenAtMs = -Infinity

  constructor (design: Design, clock: ManualClock, database: SimulatedDatabase, delays: Delays) {
    this.#design = design
    this.#clock = clock
    this.#database = database
    this.#delays = delays
    this.#connect()
  }

  read (key: string, answer: (version: number) => void): void {
    const entry = this.#entries.get(key)
    if (entry !== undefined && this.#ageOf(entry) <= this.#boundMs) answer(entry.version)
    else this.#load(key, answer)
  }

  /** The connection was closed by the other side, which TCP tells. */
  drop (): void {
    this.#close()
    this.#reconnectLater()
  }

  get #boundMs (): number {
    return this.#design.heartbeat ? limits.maxStalenessMs : limits.expireAfterMs
  }

  #ageOf (entry: Entry): number {
    const provenAtMs = this.#design.heartbeat && entry.epoch === this.#epoch ? this.#provenAtMs : -Infinity
    return this.#clock.monotonic() - Math.max(entry.loadedAtMs, provenAtMs)
  }

  #load (key: string, answer: (version: number) => void): void {
    const under = this.#flights.get(key)
    if (under !== undefined) {
      under.waiters.push(answer)
      return
    }
    const flight: Flight = { begunAtMs: this.#clock.monotonic(), waiters: [answer] }
    const epoch = this.#epoch
    this.#flights.set(key, flight)
    // The database reads at one instant, the answer is here at another: the race lives between them.
    this.#clock.setTimer(() => {
      const version = this.#database.versionOf(key)
      this.#clock.setTimer(() => {
        const overtaken = this.#flights.get(key) !== flight
        if (!overtaken) this.#flights.delete(key)
        if (!overtaken || !this.#design.floors) this.#entries.set(key, { version, loadedAtMs: flight.begunAtMs, epoch })
        for (const waiter of flight.waiters) waiter(version)
      }, this.#delays.loadMs())
    }, this.#delays.loadMs())
  }

  #hear (message: Message): void {
    if (message.kind === 'echo') {
      this.#provenAtMs = Math.max(this.#provenAtMs, message.sentAtMs)
      return
    }
    this.#entries.delete(message.key)
    if (this.#design.floors) this.#flights.delete(message.key)
  }

  #connect (): void {
    const link = new SimulatedLink(this.#clock, this.#delays.messageMs, message => { this.#hear(message) })
    this.link = link
    if (!this.#design.listens) return
    this.#database.links.add(link)
    if (this.#design.epochs) {
      this.#epoch++
      this.#provenAtMs = -Infinity
      this.#flights.clear()
    }
    if (this.#design.heartbeat) this.#beat(link)
  }

  #beat (link: SimulatedLink): void {
    if (this.link !== link) return
    const sentAtMs = this.#clock.monotonic()
    link.send({ kind: 'echo', sentAtMs })
    this.#clock.setTimer(() => {
      if (this.link === link && this.#provenAtMs < sentAtMs) this.drop()
    }, limits.echoWithinMs)
    this.#clock.setTimer(() => { if (this.link === link) this.#beat(link) }, limits.heartbeatMs)
  }

  #close (): void {
    this.link.state = 'closed'
    this.#database.links.delete(this.link)
  }

  #reconnectLater (): void {
    this.#clock.setTimer(() => {
      if (this.unreachable) this.#reconnectLater()
      else if (this.link.state === 'closed') this.#connect()
    }, limits.reconnectAfterMs)
  }
}
