import { invalidParameter } from './clerk-error.js'

/** The faults of webhooks. Ratios are from 0 to 1 and of the messages; what is left out does not go wrong. */
export interface WebhookFault {
  /** The part that is never sent. `redeliver` sends them nevertheless. */
  readonly dropRatio?: number
  /** The part that is sent twice, under the same id. */
  readonly duplicateRatio?: number
  /**
   * The most later messages, copies included, that may overtake one. A message is held until enough later ones have
   * come for its new place to be certain, until `deliveries()` is asked, or until another fault is set.
   */
  readonly reorderWithin?: number
  /** The delay of each, in milliseconds. */
  readonly delayMs?: number
  /** Signs in place of the secret of the endpoint, as one that was rotated away would. `whsec_` and base64. */
  readonly secret?: string
  /** The part that is signed with `secret`. Default is 1. */
  readonly secretRatio?: number
  /** The most requests that are under way to one endpoint at a time. Default is 1. */
  readonly maxInFlight?: number
}

interface Bounds { readonly min: number, readonly max: number, readonly isWhole: boolean }

const bounds: Readonly<Record<Exclude<keyof WebhookFault, 'secret'>, Bounds>> = {
  dropRatio: { min: 0, max: 1, isWhole: false },
  duplicateRatio: { min: 0, max: 1, isWhole: false },
  reorderWithin: { min: 0, max: 10_000, isWhole: true },
  delayMs: { min: 0, max: 2 ** 31 - 1, isWhole: false },
  secretRatio: { min: 0, max: 1, isWhole: false },
  maxInFlight: { min: 1, max: 1000, isWhole: true }
}

/** The fate of one message, which chance decided when it was made. */
export interface MessageFate {
  readonly isDropped: boolean
  /** Below `secretRatio`: signed with another secret. */
  readonly secretDraw: number
  /** By how many places each of its copies is set back, of which there are one or two; fractions decide ties. */
  readonly setBacks: readonly number[]
}

/** The secret of an endpoint, checked. @throws ClerkError 422 when it is not one of Svix */
export function webhookSecret (secret: string): string {
  if (/^whsec_[A-Za-z0-9+/]{32,}={0,2}$/.test(secret)) return secret
  throw invalidParameter('secret', 'must be whsec_ and base64 of at least 24 bytes')
}

/** The faults of the webhooks, in force until others are set. */
export class WebhookFaults {
  readonly #random: () => number
  readonly #changed: () => void
  #fault: WebhookFault | null = null

  /**
   * @param random - from 0 up to 1; asked the same number of times for each message, whatever is set
   * @param changed - called before another fault is in force
   */
  constructor (random: () => number, changed: () => void) {
    this.#random = random
    this.#changed = changed
  }

  get fault (): WebhookFault | null {
    return this.#fault
  }

  /** From now on; null: none. @throws ClerkError 422 for a value that is out of bounds */
  set (fault: WebhookFault | null): void {
    if (fault !== null) check(fault)
    this.#changed()
    this.#fault = fault
  }

  /** Draws the fate of the next message. */
  draw (): MessageFate {
    const { dropRatio = 0, duplicateRatio = 0, reorderWithin = 0 } = this.#fault ?? {}
    const places = reorderWithin + 1
    const isDropped = this.#random() < dropRatio
    const copies = this.#random() < duplicateRatio ? 2 : 1
    const secretDraw = this.#random()
    const setBacks = [this.#random() * places, this.#random() * places]
    return { isDropped, secretDraw, setBacks: setBacks.slice(0, copies) }
  }

  /** The secret that signs a message now: another secret by the fault, or that of its endpoint. */
  secretFor ({ secretDraw }: MessageFate, ofEndpoint: string): string {
    const { secret = ofEndpoint, secretRatio = 1 } = this.#fault ?? {}
    return secretDraw < secretRatio ? secret : ofEndpoint
  }
}

function check (fault: WebhookFault): void {
  if (fault.secret !== undefined) webhookSecret(fault.secret)
  for (const name of Object.keys(bounds) as Array<keyof typeof bounds>) {
    const { min, max, isWhole } = bounds[name]
    const value = fault[name]
    if (value === undefined) continue
    if (!(value >= min && value <= max) || (isWhole && !Number.isInteger(value))) {
      throw invalidParameter(name, `must be ${isWhole ? 'a whole number' : 'a number'} from ${min} to ${max}`)
    }
  }
}
