import createError from '@fastify/error'
import type { CodedError } from '@orientor/session-contract/core'

/** Coded errors of session-identity. Match by `code`. */
export interface SessionIdentityErrors {
  /** No `issuer`, and no `@fastify/jwt` in scope at ready. */
  readonly NoVerifier: CodedError<'ORI_IDENTITY_NO_VERIFIER'>
  /** `@fastify/jwt` whose secret is a function: it needs the request, so its answer cannot be kept for a token. */
  readonly DynamicSecret: CodedError<'ORI_IDENTITY_DYNAMIC_SECRET'>
  /** The issuer's keys could not be loaded. Never thrown: the cause of an `unavailable` outcome, and of a degraded health. */
  readonly KeysUnavailable: CodedError<'ORI_IDENTITY_KEYS_UNAVAILABLE', [string, string]>
}

export const errors: SessionIdentityErrors = {
  NoVerifier: createError('ORI_IDENTITY_NO_VERIFIER',
    '@orientor/session-identity has nothing to verify tokens with. The rule: it needs the option "issuer", or @fastify/jwt in the same scope. Received neither. Register it with { issuer: \'https://clerk.example.com\' }, or register @fastify/jwt without a namespace.', 500),
  DynamicSecret: createError('ORI_IDENTITY_DYNAMIC_SECRET',
    '@orientor/session-identity cannot use this @fastify/jwt: its secret is a function. The rule: the secret must be a string, a buffer or a public key, as a verified token is remembered beyond its request. Give it a fixed secret, or let this plugin verify by itself: { issuer: \'https://clerk.example.com\', verify: \'jwks\' }.', 500),
  KeysUnavailable: createError('ORI_IDENTITY_KEYS_UNAVAILABLE', 'The keys of the issuer could not be loaded from %s: %s.', 503)
}

/** Codes of the errors above. */
export type SessionIdentityErrorCode = InstanceType<SessionIdentityErrors[keyof SessionIdentityErrors]>['code']
