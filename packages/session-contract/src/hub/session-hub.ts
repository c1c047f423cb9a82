import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Component, Sync } from '../component.js'
import { errors } from '../errors.js'
import type { Identity } from '../identity.js'
import { compileRouteSession, defaultRouteSession, type RouteSession } from '../route-session.js'
import { anonymous, identified, type SessionOutcome, type Unresolved } from '../session-outcome.js'
import type { UserSource } from '../user-source.js'
import type { SessionUser } from '../user.js'
import { holdTick, type HeldTick } from './held-tick.js'
import { refusalOf } from './refusal.js'
import { resolveBySource } from './resolve-by-source.js'
import type { Slots } from './slots.js'
import { startSource } from './start-source.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who the credentials name, verified; null when there are none. */
    identity: Identity | null
    /** The active user; null means nobody. */
    sessionUser: SessionUser | null
    /** How the request was resolved; null before the hook ran and on routes with `session: false`. */
    sessionOutcome: SessionOutcome | null
  }
  interface FastifyContextConfig {
    /** What the route demands of the session; see RouteSession. */
    session?: false | Partial<RouteSession>
  }
}

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

const protocol = 1
// Symbol.for: two copies of this package meet in the same hub.
const hubKey = Symbol.for('@orientor/session-contract/hub')
const compiledKey = Symbol.for('@orientor/session-contract/route')
const decorators = ['identity', 'sessionUser', 'sessionOutcome'] as const
const slotNames = ['identify', 'resolve', 'source'] as const

interface Scope { [hubKey]?: Hub }
interface CompiledConfig { session?: unknown, [compiledKey]?: RouteSession | null }

/**
 * The hub of this scope. The first call in a line of scopes declares the request decorators and installs the one onRequest hook;
 * later calls, in whatever order and from whatever copy of this package, find it. Every session plugin calls it.
 *
 * As everywhere in Fastify, scopes that were registered before the plugin are outside of it.
 *
 * @throws ORI_CONTRACT_FOREIGN_DECORATOR when something else decorated the request, ORI_CONTRACT_INCOMPATIBLE_COPIES when
 *   another major version of this package made the hub
 */
export function sessionHub (fastify: FastifyInstance): SessionHub {
  const scope = fastify as FastifyInstance & Scope
  const inherited = scope[hubKey]
  if (inherited !== undefined && inherited.protocol !== protocol) throw new errors.IncompatibleCopies(String(inherited.protocol), String(protocol))
  if (inherited !== undefined && Object.hasOwn(scope, hubKey)) return inherited

  const hub = new Hub(inherited ?? null)
  if (inherited === undefined) {
    for (const name of decorators) {
      if (fastify.hasRequestDecorator(name)) throw new errors.ForeignDecorator(name)
    }
    for (const name of decorators) fastify.decorateRequest(name, null)
    fastify.addHook('onRequest', resolveSession)
    fastify.addHook('onRoute', route => { compiled((route.config ??= {}) as CompiledConfig) })
  }
  Object.defineProperty(scope, hubKey, { value: hub })
  fastify.addHook('onReady', async function () {
    if (hub.ownSource !== undefined) await startSource(hub.ownSource, this)
    const mentioned = await hub.mentioned()
    this.log.info(`session: ${[hub.describe(), ...mentioned].join(' ')}`)
  })
  return hub
}

class Hub implements SessionHub {
  readonly protocol: number = protocol
  readonly heldTick: HeldTick = holdTick()
  readonly #parent: Hub | null
  readonly #slots: { -readonly [S in keyof Slots]: Slots[S] } = {}
  readonly #owners: { [S in keyof Slots]?: string } = {}
  readonly #components: Component[] = []
  readonly #mentions: Array<() => Promise<string>> = []
  #effective: Slots | null = null

  constructor (parent: Hub | null) {
    this.#parent = parent
  }

  get slots (): Slots {
    return { ...this.#parent?.slots, ...this.#slots }
  }

  /** The source that was filled in this scope itself. */
  get ownSource (): UserSource | undefined {
    return this.#slots.source
  }

  get components (): readonly Component[] {
    return [...this.#parent?.components ?? [], ...this.#components]
  }

  fill<S extends keyof Slots> (slot: S, owner: string, value: NonNullable<Slots[S]>): void {
    const taken = this.#owners[slot]
    if (taken !== undefined) throw new errors.SlotTaken(slot, taken, owner)
    if (this.#effective !== null) throw new errors.SlotTooLate(slot, owner)
    this.#slots[slot] = value
    this.#owners[slot] = owner
  }

  observe (component: Component): void {
    this.#components.push(component)
  }

  mention (label: string, text: () => Promise<string>): void {
    this.#mentions.push(async () => `${label}=${await text()}`)
  }

  mentioned (): Promise<string[]> {
    return Promise.all(this.#mentions.map(mention => mention()))
  }

  ownerOf (slot: keyof Slots): string {
    return this.#owners[slot] ?? this.#parent?.ownerOf(slot) ?? 'none'
  }

  describe (): string {
    return slotNames.map(slot => `${slot}=${this.ownerOf(slot)}`).join(' ')
  }

  /** The slots as requests see them: settled by the first request. */
  get effective (): Slots {
    this.#effective ??= Object.freeze(this.slots)
    return this.#effective
  }
}

/** The one hook: identify, resolve, settle. Synchronous, and without a promise, as long as the slots are. */
function resolveSession (this: FastifyInstance, request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void {
  let route: RouteSession | null
  try {
    route = compiled(request.routeOptions.config as CompiledConfig | undefined)
  } catch (error) {
    done(error as Error)
    return
  }
  if (route === null) {
    done()
    return
  }
  try {
    const slots = (this as FastifyInstance & Scope)[hubKey]!.effective
    const found = slots.identify === undefined ? anonymous : slots.identify(request)
    if (isPromise(found)) {
      const demand = route
      found.then(settled => { afterIdentify(slots, settled, demand, request, reply, done) }).catch((error: unknown) => { fail(error, done) })
    } else {
      afterIdentify(slots, found, route, request, reply, done)
    }
  } catch (error) {
    fail(error, done)
  }
}

function afterIdentify (slots: Slots, found: Identity | Unresolved, route: RouteSession, request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void {
  if (found.kind !== 'identity') {
    settle(found, route, request, reply, done)
    return
  }
  request.identity = found
  const outcome = resolve(slots, found, route)
  if (isPromise(outcome)) {
    outcome.then(settled => { settle(settled, route, request, reply, done) }).catch((error: unknown) => { fail(error, done) })
  } else {
    settle(outcome, route, request, reply, done)
  }
}

function resolve (slots: Slots, identity: Identity, route: RouteSession): Sync<SessionOutcome> {
  if (slots.resolve !== undefined) return slots.resolve(identity, route)
  return slots.source === undefined ? identified : resolveBySource(slots.source, identity)
}

function settle (outcome: SessionOutcome, route: RouteSession, request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void {
  request.sessionOutcome = outcome
  if (outcome.kind === 'user') {
    request.sessionUser = outcome.user
    if (outcome.stale) reply.header('x-session-stale', '1')
    done()
    return
  }
  const refusal = refusalOf(outcome, route.required)
  if (refusal === null) {
    done()
    return
  }
  if (outcome.kind === 'unavailable') request.log.warn({ err: outcome.cause }, 'session unavailable')
  reply.code(refusal.status).headers(refusal.headers).type('application/problem+json; charset=utf-8').send(JSON.stringify(refusal.problem))
}

function fail (error: unknown, done: (error?: Error) => void): void {
  done(new errors.ResolutionFailed({ cause: error }))
}

function compiled (config: CompiledConfig | undefined): RouteSession | null {
  if (config === undefined) return defaultRouteSession
  const known = config[compiledKey]
  if (known !== undefined) return known
  const route = compileRouteSession(config.session)
  if (Object.isExtensible(config)) Object.defineProperty(config, compiledKey, { value: route })
  return route
}

function isPromise<T extends object> (value: T | Promise<T>): value is Promise<T> {
  return typeof (value as Promise<T>).then === 'function'
}
