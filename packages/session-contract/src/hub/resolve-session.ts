import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Sync } from '../component.js'
import { errors } from '../errors.js'
import type { Identity } from '../identity.js'
import { describe } from '../option-rules.js'
import type { RouteSession } from '../route-session.js'
import { anonymous, failed, identified, type SessionOutcome, type Unresolved } from '../session-outcome.js'
import { outcomeOfThrown } from '../thrown-outcome.js'
import { compiledRoute, type CompiledConfig } from './compiled-route.js'
import { hubOf, type Resolution } from './hub.js'
import { outOfScopeError } from './out-of-scope.js'
import { refusalError } from './refusal-error.js'
import { refusalOf } from './refusal.js'
import { resolveBySource } from './resolve-by-source.js'

/** One request on its way through the hook. */
interface Pending {
  readonly hub: Resolution
  readonly route: RouteSession
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  readonly done: (error?: Error) => void
}

/** The one hook: identify, resolve, settle. Synchronous, and without a promise, as long as the slots are. */
export function resolveSession (this: FastifyInstance, request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void {
  const hub = hubOf(this)?.resolution
  if (hub === undefined) {
    const error = outOfScopeError(request)
    if (error === null) done()
    else done(error)
    return
  }
  let route: RouteSession | null
  try {
    route = compiledRoute(request.routeOptions.config as CompiledConfig | undefined)
  } catch (error) {
    done(error as Error)
    return
  }
  if (route === null) {
    withoutUser(request, null, null)
    done()
    return
  }
  const pending: Pending = { hub, route, request, reply, done }
  let found: Sync<Identity | Unresolved>
  try {
    found = hub.identify === undefined ? anonymous : hub.identify(request, route)
  } catch (error) {
    settle(pending, outcomeOfThrown(error))
    return
  }
  if (!isPromise(found)) afterIdentify(pending, found)
  else {
    found.then(settled => { afterIdentify(pending, settled) }, (error: unknown) => { settle(pending, outcomeOfThrown(error)) })
      .catch((error: unknown) => { done(error as Error) })
  }
}

function afterIdentify (pending: Pending, found: Identity | Unresolved): void {
  if (found?.kind !== 'identity') {
    settle(pending, isUnresolved(found) ? found : invalidAnswer('identify', 'an identity, as createIdentity() makes it, or an outcome such as { kind: \'anonymous\' }', found))
    return
  }
  let outcome: Sync<SessionOutcome>
  try {
    outcome = resolve(pending, found)
  } catch (error) {
    settle(pending, failed(error))
    return
  }
  if (!isPromise(outcome)) afterResolve(pending, found, outcome)
  else {
    outcome.then(settled => { afterResolve(pending, found, settled) }, (error: unknown) => { settle(pending, failed(error)) })
      .catch((error: unknown) => { pending.done(error as Error) })
  }
}

function afterResolve (pending: Pending, identity: Identity, outcome: SessionOutcome): void {
  const isOutcome = outcome?.kind === 'user' || isUnresolved(outcome)
  settle(pending, isOutcome ? outcome : invalidAnswer('resolve', 'an outcome', outcome), identity)
}

function resolve ({ hub, route }: Pending, identity: Identity): Sync<SessionOutcome> {
  if (hub.resolve !== undefined) return hub.resolve(identity, route)
  return hub.source === undefined ? identified : resolveBySource(hub.source, identity)
}

/** @param identity - left out where the credentials name no identity */
function settle ({ hub, route, request, reply, done }: Pending, outcome: SessionOutcome, identity: Identity | null = null): void {
  if (outcome.kind === 'user') {
    request.identity = identity
    request.sessionUser = outcome.user
    request.sessionOutcome = outcome
    if (outcome.stale) reply.header('x-session-stale', '1')
    done()
    return
  }
  withoutUser(request, outcome, outcome.kind === 'identified' ? identity : null)
  if (outcome.kind === 'failed') request.log.error({ err: outcome.cause }, 'a defect kept the session from being resolved')
  const refusal = refusalOf(outcome, route.required, hub.refuse)
  if (refusal === null) {
    done()
    return
  }
  if (outcome.kind === 'unavailable' && (outcome.cause ?? null) !== null) request.log.warn({ err: outcome.cause }, 'session unavailable')
  if (hub.refuseAs === 'error') done(refusalError(refusal, outcome))
  else reply.code(refusal.status).headers(refusal.headers).type('application/problem+json; charset=utf-8').send(JSON.stringify(refusal.problem))
}

/** Sets what is null too: in a scope that was registered before the hub, Fastify has not declared the decorators. */
function withoutUser (request: FastifyRequest, outcome: SessionOutcome | null, identity: Identity | null): void {
  request.identity = identity
  request.sessionUser = null
  request.sessionOutcome = outcome
}

const outcomeKinds: ReadonlySet<unknown> = new Set<Unresolved['kind']>(['anonymous', 'identified', 'refused', 'forbidden', 'unavailable', 'failed'])

function isUnresolved (found: unknown): found is Unresolved {
  return typeof found === 'object' && found !== null && 'kind' in found && outcomeKinds.has(found.kind)
}

function invalidAnswer (slot: string, must: string, received: unknown): Unresolved {
  return failed(new errors.InvalidAnswer(slot, must, describe(received, true)))
}

function isPromise<T> (value: T | Promise<T>): value is Promise<T> {
  return typeof (value as Promise<T> | null | undefined)?.then === 'function'
}
