import type { Component } from '../component.js'
import { errors } from '../errors.js'
import { hubDefaults, hubOptionNames, type HubConfig, type HubOptionValues, type SessionHubOptions } from '../hub-options.js'
import { invalidOption } from '../option-rules.js'
import { holdTick, type HeldTick } from './held-tick.js'
import type { Slots } from './slots.js'
import type { UserSource } from '../user-source.js'

/** Where the plugins of one Fastify scope meet. A hub of a child scope inherits what its parents' hubs hold. */
export interface SessionHub {
  /** Who decides what in this scope, inherited slots included. */
  readonly slots: Slots
  /** What can be shown of this scope's plugins, inherited ones included. */
  readonly components: readonly Component[]
  /**
   * Takes a slot of this scope.
   *
   * @param owner - the package, for messages
   * @throws ORI_CONTRACT_SLOT_TAKEN on a second fill in one scope, ORI_CONTRACT_SLOT_TOO_LATE after the first request
   */
  fill<S extends keyof Slots> (slot: S, owner: string, value: NonNullable<Slots[S]>): void
  /** Adds a component for the monitoring routes. */
  observe (component: Component): void
  /**
   * Adds `label=text` to the line that says who does what. The text is asked for when the server becomes ready, before any other `onReady` hook of the
   * session plugins, and the server waits for it: it must come within a bounded time.
   */
  mention (label: string, text: () => Promise<string>): void
}

/** What requests of one scope are resolved by. */
export interface Resolution extends Slots, HubConfig {}

/** The version of what copies of this package ask of one another's hubs. */
export const protocol = 2
// Symbol.for: two copies of this package meet in the same hub.
const hubKey = Symbol.for('@orientor/session-contract/hub')
const slotNames = ['identify', 'resolve', 'source'] as const

/** The hub of a scope, or the nearest one above it; undefined outside of all. */
export function hubOf (scope: object): Hub | undefined {
  return (scope as { [hubKey]?: Hub })[hubKey]
}

/** Whether the scope has a hub of its own. */
export function hasOwnHub (scope: object): boolean {
  return Object.hasOwn(scope, hubKey)
}

/** The hub of one scope: slots, options and components, over those of its parent. */
export class Hub implements SessionHub {
  readonly protocol: number = protocol
  readonly heldTick: HeldTick = holdTick()
  readonly #parent: Hub | null
  readonly #slots: { -readonly [S in keyof Slots]: Slots[S] } = {}
  readonly #owners: { [S in keyof Slots]?: string } = {}
  #options: SessionHubOptions = {}
  readonly #components: Component[] = []
  readonly #mentions: Array<() => Promise<string>> = []
  #resolution: Resolution | null = null

  /** Takes its place in the scope. */
  constructor (scope: object, parent: Hub | null) {
    this.#parent = parent
    Object.defineProperty(scope, hubKey, { value: this })
  }

  get slots (): Slots {
    return { ...this.#parent?.slots, ...this.#slots }
  }

  /** The source that fills the slot of this scope itself. */
  get ownSource (): UserSource | undefined {
    return this.#slots.source
  }

  get components (): readonly Component[] {
    return [...this.#parent?.components ?? [], ...this.#components]
  }

  fill<S extends keyof Slots> (slot: S, owner: string, value: NonNullable<Slots[S]>): void {
    const taken = this.#owners[slot]
    if (taken !== undefined) throw new errors.SlotTaken(slot, taken, owner)
    if (this.#resolution !== null) throw new errors.SlotTooLate(slot, owner)
    this.#slots[slot] = value
    this.#owners[slot] = owner
  }

  /**
   * Sets what is given; what was set before in this scope must be the same.
   *
   * @throws ORI_CONTRACT_INVALID_OPTION when it is not, or after the first request
   */
  configure (given: HubOptionValues): void {
    for (const name of hubOptionNames) {
      const [before, value] = [this.#options[name], given[name]]
      if (value === undefined || value === before) continue
      if (before !== undefined) {
        const received = `${JSON.stringify(value)} after ${JSON.stringify(before)}`
        throw invalidOption('sessionHub()', `option "${name}" must be the same for every plugin of one scope; received ${received}.`)
      }
      if (this.#resolution !== null) throw invalidOption('sessionHub()', `option "${name}" must be given before the first request.`)
      this.#options = { ...this.#options, [name]: value }
    }
  }

  observe (component: Component): void {
    this.#components.push(component)
  }

  mention (label: string, text: () => Promise<string>): void {
    this.#mentions.push(async () => `${label}=${await text()}`)
  }

  /** The line that says who does what. */
  async describe (): Promise<string> {
    const mentioned = await Promise.all(this.#mentions.map(mention => mention()))
    return ['session:', ...slotNames.map(slot => `${slot}=${this.ownerOf(slot)}`), ...mentioned].join(' ')
  }

  /** Slots and options as requests see them: settled by the first request. */
  get resolution (): Resolution {
    this.#resolution ??= Object.freeze({ ...this.slots, ...this.options })
    return this.#resolution
  }

  // Public, as a parent may be of another copy of this package.
  get options (): HubConfig {
    const inherited = this.#parent?.options ?? hubDefaults
    return { ...inherited, ...this.#options as Partial<HubConfig> }
  }

  ownerOf (slot: keyof Slots): string {
    return this.#owners[slot] ?? this.#parent?.ownerOf(slot) ?? 'none'
  }
}
