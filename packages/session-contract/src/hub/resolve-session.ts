import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Sync } from '../component.js'
import { errors } from '../errors.js'
import type { Identity } from '../identity.js'
import type { RouteSession } from '../route-session.js'
import { anonymous, failed, identified, type SessionOutcome, type Unresolved } from '../session-outcome.js'
import { outcomeOfThrown } from '../thrown-outcome.js'
import { checkedIdentity, checkedOutcome } from './checked-answer.js'
import { compiledRoute, type CompiledConfig } from './compiled-route.js'
import { hubOf, type Resolution } from './hub.js'
import { refusalError } from './refusal-error.js'
import { refusalOf } from './refusal.js'
import { sendProblem } from './send-problem.js'
import { resolveBySource } from './resolve-by-source.js'

/** One request on its way through the hook. */
interface Pending {
  readonly resolution: Resolution
  readonly route: RouteSession
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  readonly done: (error?: Error) => void
}

// Symbol.for: hooks of two copies of this package tell whose turn it is.
const hookedKey = Symbol.for('@orientor/session-contract/hooked')

/**
 * Adds the one hook to a scope: identify, resolve, settle. Fastify also runs it in the scopes below, in those that were registered before
 * included; where one of these has a hook of its own, that one alone acts. Synchronous, and without a promise, as long as the slots are.
 */
export function resolveSessions (scope: FastifyInstance): void {
  Object.defineProperty(scope, hookedKey, { value: scope })
  scope.addHook('onRequest', function (this: FastifyInstance & { [hookedKey]?: FastifyInstance }, request, reply, done) {
    if (this[hookedKey] === scope) resolveSession(hubOf(this)!.resolution, request, reply, done)
    else done()
  })
}

function resolveSession (resolution: Resolution, request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void {
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
  const pending: Pending = { resolution, route, request, reply, done }
  let found: Sync<Identity | Unresolved>
  try {
    found = identify(pending)
  } catch (error) {
    settle(pending, outcomeOfThrown(error))
    return
  }
  if (!(found instanceof Promise)) afterIdentify(pending, found)
  else {
    found.then(settled => { afterIdentify(pending, settled) }, (error: unknown) => { settle(pending, outcomeOfThrown(error)) })
      .catch((error: unknown) => { endAsDefect(pending, error) })
  }
}

function afterIdentify (pending: Pending, found: Identity | Unresolved): void {
  if (found.kind !== 'identity') {
    settle(pending, found)
    return
  }
  let outcome: Sync<SessionOutcome>
  try {
    outcome = resolve(pending, found)
  } catch (error) {
    settle(pending, failed(error))
    return
  }
  if (!(outcome instanceof Promise)) settle(pending, outcome, found)
  else {
    outcome.then(settled => { settle(pending, settled, found) }, (error: unknown) => { settle(pending, failed(error)) })
      .catch((error: unknown) => { endAsDefect(pending, error) })
  }
}

function identify ({ resolution, route, request }: Pending): Sync<Identity | Unresolved> {
  if (resolution.identify === undefined) return anonymous
  const answer = resolution.identify(request, route)
  return isThenable(answer) ? Promise.resolve(answer).then(checkedIdentity) : checkedIdentity(answer)
}

function resolve ({ resolution, route }: Pending, identity: Identity): Sync<SessionOutcome> {
  const { resolve, source } = resolution
  if (resolve === undefined) return source === undefined ? identified : resolveBySource(source, identity)
  const answer = resolve(identity, route)
  return isThenable(answer) ? Promise.resolve(answer).then(checkedOutcome) : checkedOutcome(answer)
}

/** For what goes wrong after a slot has answered: without this it would be a rejection that ends the process. */
function endAsDefect ({ done }: Pending, cause: unknown): void {
  done(Object.defineProperty(new errors.ResolutionFailed({ cause }), 'cause', { value: cause, enumerable: false }))
}

/** @param identity - left out where the credentials name no identity */
function settle ({ resolution, route, request, reply, done }: Pending, outcome: SessionOutcome, identity: Identity | null = null): void {
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
  const refusal = refusalOf(outcome, route.required, resolution.refuse)
  if (refusal === null) {
    done()
    return
  }
  if (outcome.kind === 'unavailable' && (outcome.cause ?? null) !== null) request.log.warn({ err: outcome.cause }, 'session unavailable')
  if (resolution.refuseAs === 'error') done(refusalError(refusal, outcome))
  else sendProblem(reply.headers(refusal.headers), refusal.problem)
}

/** Sets what is null too: in a scope that was registered before the hub, Fastify has not declared the decorators. */
function withoutUser (request: FastifyRequest, outcome: SessionOutcome | null, identity: Identity | null): void {
  request.identity = identity
  request.sessionUser = null
  request.sessionOutcome = outcome
}

function isThenable<T> (value: Sync<T>): value is Promise<T> {
  return typeof (value as Promise<T> | null | undefined)?.then === 'function'
}
