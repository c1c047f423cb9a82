import createError from '@fastify/error'
import type { CodedError } from '@orientor/session-contract/core'

/** Coded errors of the session cache. Match by `code`. All but those of status 503 are defects (500). */
export interface CacheErrors {
  /** A source answered with something that is not a record of the user it was asked for. */
  readonly MalformedRecord: CodedError<'ORI_CACHE_MALFORMED_RECORD', [string]>
  /** A source did not answer a batch with one promise per request. */
  readonly MalformedBatch: CodedError<'ORI_CACHE_MALFORMED_BATCH', [number, string]>
  /** A load was asked for where nobody knows users. */
  readonly NoSource: CodedError<'ORI_CACHE_NO_SOURCE'>
  /** tableSource() has neither the option `pool` nor `fastify.pg`. */
  readonly NoPool: CodedError<'ORI_CACHE_NO_POOL'>
  /** The database, or its driver, refused a statement of tableSource() for what it is. The cause is attached. */
  readonly StatementRefused: CodedError<'ORI_CACHE_STATEMENT_REFUSED', [{ readonly cause: unknown }]>
  /** postgresBus() has neither the option `pool` nor `fastify.pg`. */
  readonly NoBusPool: CodedError<'ORI_CACHE_NO_BUS_POOL'>
  /** A change could not be announced to the other instances. */
  readonly BusUnavailable: CodedError<'ORI_CACHE_BUS_UNAVAILABLE', [{ readonly cause: unknown }?]>
  /** A bell could not be rung. */
  readonly BellUnavailable: CodedError<'ORI_CACHE_BELL_UNAVAILABLE', [{ readonly cause: unknown }?]>
  /** redisBell() was started where the npm package `redis` cannot be loaded. The cause is attached. */
  readonly NoRedis: CodedError<'ORI_CACHE_NO_REDIS', [{ readonly cause: unknown }]>
}

/** The errors of this package, by name. */
export const errors: CacheErrors = {
  MalformedRecord: createError('ORI_CACHE_MALFORMED_RECORD',
    'The source answered with a malformed record: %s. The rule: a record is what UserRecord of @orientor/session-contract says, for the user that was asked for. Mend the source.', 500),
  MalformedBatch: createError('ORI_CACHE_MALFORMED_BATCH',
    'The source must answer a batch of %s requests with as many promises, in their order; received %s. Mend the load() of the source.', 500),
  NoSource: createError('ORI_CACHE_NO_SOURCE',
    'No source of users is in scope. The rule: the cache loads from its option "source" or from the plugin that fills the slot "source". Give the option, or register @orientor/smart-sync in the same scope.', 500),
  NoPool: createError('ORI_CACHE_NO_POOL',
    'tableSource() has no database. The rule: a pg pool is given as its option "pool", or @fastify/postgres (or @orientor/pool-tuning) decorates ' +
    'fastify.pg in the scope of the cache. Write for example tableSource({ pool: new pg.Pool({ connectionString }), … }).', 500),
  StatementRefused: createError('ORI_CACHE_STATEMENT_REFUSED',
    'The database refused to read the table of users. The rule: the table is as tableSource() is told, and the role may SELECT the columns that ' +
    'it names. See the cause; mend the options, or grant the privileges.', 500),
  NoBusPool: createError('ORI_CACHE_NO_BUS_POOL',
    'postgresBus() has no database. The rule: a pg pool is given as its option "pool", or @fastify/postgres (or ' +
    '@orientor/pool-tuning) decorates fastify.pg in the scope of the cache. Write for example postgresBus({ pool: new ' +
    'pg.Pool({ connectionString }) }).', 500),
  BusUnavailable: createError('ORI_CACHE_BUS_UNAVAILABLE',
    'The change could not be announced to the other instances: the bus could not reach the database. The rule: this ' +
    'instance has forgotten the user, the others keep theirs until they hear of the change or it is too old. Announce ' +
    'it again later.', 503),
  BellUnavailable: createError('ORI_CACHE_BELL_UNAVAILABLE',
    'The bell could not be rung: it is not connected, more rings are waiting than it takes, or the other side refused. ' +
    'The rule: a ring is a hint, and without it the other instances see the change when they poll. Nothing has to be ' +
    'repeated.', 503),
  NoRedis: createError('ORI_CACHE_NO_REDIS',
    'redisBell() needs the npm package "redis", which cannot be loaded. The rule: it is a peer dependency of ' +
    '@orientor/session-cache, and only @orientor/session-cache/redis needs it. See the cause; run npm install redis@6, ' +
    'or use a bell of another kind.', 500)
}

/** Codes of the errors above. */
export type CacheErrorCode = InstanceType<CacheErrors[keyof CacheErrors]>['code']
