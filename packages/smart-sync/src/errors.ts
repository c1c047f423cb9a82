import createError from '@fastify/error'
import type { CodedError } from '@orientor/session-contract/core'

/** Coded errors of this package. Match by `code`. */
export interface SmartSyncErrors {
  /** Neither the option `pool` nor `fastify.pg` is there. */
  readonly NoPool: CodedError<'ORI_SYNC_NO_POOL'>
  /** The database refused to store one user. The cause is attached. */
  readonly RowRefused: CodedError<'ORI_SYNC_ROW_REFUSED', [string, { readonly cause: unknown }]>
  /** The database, or its driver, refused a statement for what it is. The cause is attached. */
  readonly StatementRefused: CodedError<'ORI_SYNC_STATEMENT_REFUSED', [string, { readonly cause: unknown }]>
  /** `parseProfile` threw. The cause is attached. */
  readonly ProfileRefused: CodedError<'ORI_SYNC_PROFILE_REFUSED', [{ readonly cause: unknown }]>
  /** The table left a user as they were, though what was to be written is news. */
  readonly LeftAsItWas: CodedError<'ORI_SYNC_LEFT_AS_IT_WAS'>
  /** A function of the option `insert` threw, or answered with what is no value. The cause is attached. */
  readonly InsertRefused: CodedError<'ORI_SYNC_INSERT_REFUSED', [string, { readonly cause: unknown }]>
  /** A value is longer than its column takes. The cause is attached. */
  readonly ValueTooLong: CodedError<'ORI_SYNC_VALUE_TOO_LONG', [string, { readonly cause: unknown }]>
  /** Something that was learned about a user, and given to apply(), breaks its rule. */
  readonly InvalidObservation: CodedError<'ORI_SYNC_INVALID_OBSERVATION', [string]>
  /** The identity provider's API refused the request: most often a wrong secret key. */
  readonly ProviderRefused: CodedError<'ORI_SYNC_PROVIDER_REFUSED', [string]>
  /** The identity provider's API could not be reached, or did not answer as documented. */
  readonly ProviderUnavailable: CodedError<'ORI_SYNC_PROVIDER_UNAVAILABLE', [string]>
  /** The provider says that a user changed more than a day from now. */
  readonly FutureVersion: CodedError<'ORI_SYNC_FUTURE_VERSION'>
  /** A webhook whose signature, headers or body are not those of a genuine one. */
  readonly WebhookUnverified: CodedError<'ORI_SYNC_WEBHOOK_UNVERIFIED', [string]>
  /** A genuine webhook of another instance of the provider. */
  readonly WebhookForeign: CodedError<'ORI_SYNC_WEBHOOK_FOREIGN'>
  /** A webhook that is longer than is read. */
  readonly WebhookTooLarge: CodedError<'ORI_SYNC_WEBHOOK_TOO_LARGE', [string]>
  /** A webhook that is not sent as JSON. */
  readonly WebhookMediaType: CodedError<'ORI_SYNC_WEBHOOK_MEDIA_TYPE'>
  /** A genuine webhook could not be stored. The cause is attached, and never sent. */
  readonly WebhookNotStored: CodedError<'ORI_SYNC_WEBHOOK_NOT_STORED', [{ readonly cause: unknown }]>
  /** The tables could not be brought up to date. The cause is attached. */
  readonly MigrationFailed: CodedError<'ORI_SYNC_MIGRATION_FAILED', [string, { readonly cause: unknown }]>
  /** Another instance has held the migration lock for too long. */
  readonly MigrationLocked: CodedError<'ORI_SYNC_MIGRATION_LOCKED', [string]>
  /** The server closed before the tables were in place. */
  readonly Closed: CodedError<'ORI_SYNC_CLOSED'>
}

/** The errors of this package, by name. */
export const errors: SmartSyncErrors = {
  NoPool: createError('ORI_SYNC_NO_POOL',
    '@orientor/smart-sync has no database. The rule: a pg pool is given as option "pool", or @fastify/postgres ' +
    '(or @orientor/pool-tuning) decorates fastify.pg in the same scope. ' +
    'Write for example app.register(smartSync, { pool: new pg.Pool({ connectionString }) }).', 500),
  RowRefused: createError('ORI_SYNC_ROW_REFUSED',
    'The users table refused a user (%s). The rule: its constraints and triggers accept what the provider tells of a ' +
    'user, and a column that smart-sync does not fill has a default, or accepts null. Mend the table.', 500),
  StatementRefused: createError('ORI_SYNC_STATEMENT_REFUSED',
    'The database refused a statement of smart-sync (%s). The rule: the tables are as the migrations make them. ' +
    'See the cause; run the migrations, or mend the table.', 500),
  LeftAsItWas: createError('ORI_SYNC_LEFT_AS_IT_WAS',
    'The users table left a user as they were, and said nothing. The rule: what is written is stored, or refused with ' +
    'an error. Look for a trigger that answers with NULL, a rule, or a row-level policy that hides the row.', 500),
  ProfileRefused: createError('ORI_SYNC_PROFILE_REFUSED',
    'The option "parseProfile" threw. The rule: it answers with the profile for whatever JSON object the column ' +
    'profile_data holds. See the cause.', 500),
  InsertRefused: createError('ORI_SYNC_INSERT_REFUSED',
    'The option "insert" could not supply the column "%s". The rule: its function answers with a text, a number, ' +
    'true or false, a Date, null, or what JSON can hold. See the cause.', 500),
  ValueTooLong: createError('ORI_SYNC_VALUE_TOO_LONG',
    'The users table cannot hold a user: %s. The rule: a value is no longer than its column takes. ' +
    'Widen the column, or shorten the value at the provider.', 500),
  InvalidObservation: createError('ORI_SYNC_INVALID_OBSERVATION',
    'An observation of a user breaks its rule: %s. It is made by observe(), sessionEnded() or userDeleted().', 500),
  ProviderRefused: createError('ORI_SYNC_PROVIDER_REFUSED',
    'The identity provider refused the request with status %s. The rule: its API accepts the secret key. ' +
    'Check the secret key and the URL of the API.', 502),
  ProviderUnavailable: createError('ORI_SYNC_PROVIDER_UNAVAILABLE',
    'The identity provider could not be asked: %s.', 503),
  FutureVersion: createError('ORI_SYNC_FUTURE_VERSION',
    'The identity provider dates a user more than 24 hours ahead of this machine. The rule: such a version is not ' +
    'stored, since nothing could follow it. Check both clocks.', 502),
  WebhookUnverified: createError('ORI_SYNC_WEBHOOK_UNVERIFIED',
    'The webhook is not accepted: %s. The rule: the headers svix-id, svix-timestamp and svix-signature (or ' +
    'webhook-…) are there once each, a secret of this endpoint has signed them together with the body, and the timestamp is ' +
    'within five minutes of now. Check the secret of the endpoint and the clocks.', 400),
  WebhookForeign: createError('ORI_SYNC_WEBHOOK_FOREIGN',
    'The webhook is of another instance. The rule: its instance_id is the one that this service is configured with. ' +
    'Check which instance sends to this endpoint.', 400),
  WebhookTooLarge: createError('ORI_SYNC_WEBHOOK_TOO_LARGE',
    'The webhook is too large. The rule: its body has at most %s bytes.', 413),
  WebhookMediaType: createError('ORI_SYNC_WEBHOOK_MEDIA_TYPE',
    'The webhook has the wrong media type. The rule: its content-type is application/json.', 415),
  WebhookNotStored: createError('ORI_SYNC_WEBHOOK_NOT_STORED',
    'The webhook could not be stored. Nothing is wrong with it: send it again later.', 503),
  MigrationFailed: createError('ORI_SYNC_MIGRATION_FAILED',
    'The tables of smart-sync could not be brought up to date: %s.', 500),
  MigrationLocked: createError('ORI_SYNC_MIGRATION_LOCKED',
    'Another instance has held the migration lock for more than %s ms. The rule: one instance migrates at a time. ' +
    'It is tried again; if it stays so, look for the holder in pg_locks.', 503),
  Closed: createError('ORI_SYNC_CLOSED', 'The server closed before the tables of smart-sync were in place.', 503)
}

/** Codes of the errors above. */
export type SmartSyncErrorCode = InstanceType<SmartSyncErrors[keyof SmartSyncErrors]>['code']
