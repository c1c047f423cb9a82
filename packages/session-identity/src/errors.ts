import createError from '@fastify/error'
import type { CodedError } from '@orientor/session-contract/core'

/** Coded errors of session-identity. Match by `code`. */
export interface SessionIdentityErrors {
  /** No `issuer`, and no `@fastify/jwt` in scope at ready. */
  readonly NoVerifier: CodedError<'ORI_IDENTITY_NO_VERIFIER'>
  /** `@fastify/jwt` whose secret is a function: it needs the request, so its answer cannot be kept for a token. */
  readonly DynamicSecret: CodedError<'ORI_IDENTITY_DYNAMIC_SECRET'>
  /** `fromJwt()`, and no such verifier of `@fastify/jwt` in the scope of the request. Thrown at the first request. */
  readonly NoJwt: CodedError<'ORI_IDENTITY_NO_JWT', [string, string]>
  /** `fromClerk()`, and `@clerk/fastify` has not looked at the request yet. Thrown at the first request. */
  readonly ClerkTooLate: CodedError<'ORI_IDENTITY_CLERK_TOO_LATE'>
  /** `fastify.sessionIdentity.identify()` where the application identifies requests by itself. */
  readonly NotByToken: CodedError<'ORI_IDENTITY_NOT_BY_TOKEN'>
  /** The application's verifier failed in a way that says nothing of the token. Never thrown: the cause of an `unavailable` outcome. */
  readonly AppVerifierFailed: CodedError<'ORI_IDENTITY_APP_VERIFIER_FAILED', [string]>
  /** The issuer's keys could not be loaded. Never thrown: the cause of an `unavailable` outcome, and of a degraded health. */
  readonly KeysUnavailable: CodedError<'ORI_IDENTITY_KEYS_UNAVAILABLE', [string, string]>
}

/** The errors of this package, by name. */
export const errors: SessionIdentityErrors = {
  NoVerifier: createError('ORI_IDENTITY_NO_VERIFIER',
    '@orientor/session-identity has nothing to verify tokens with. The rule: it needs the option "issuer", or @fastify/jwt in the same scope. Received neither. Register it with { issuer: \'https://clerk.example.com\' }, or register @fastify/jwt without a namespace.', 500),
  DynamicSecret: createError('ORI_IDENTITY_DYNAMIC_SECRET',
    '@orientor/session-identity cannot use this @fastify/jwt: its secret is a function. The rule: the secret must be a string, a buffer or a public key, as a verified token is remembered beyond its request. Give it a fixed secret, or let this plugin verify by itself: { issuer: \'https://clerk.example.com\', verify: \'jwks\' }.', 500),
  NoJwt: createError('ORI_IDENTITY_NO_JWT',
    '@orientor/session-identity: fromJwt() has nothing to verify requests with. The rule: @fastify/jwt must be registered in the same scope, under the names that fromJwt() is given. Found neither fastify.%s nor request.%s(), or one of them only. Register @fastify/jwt, or give fromJwt() its "namespace" and "jwtVerify".', 500),
  ClerkTooLate: createError('ORI_IDENTITY_CLERK_TOO_LATE',
    '@orientor/session-identity: fromClerk() was asked before @clerk/fastify. The rule: @clerk/fastify must look at a request first. Found no request.auth. Register clerkPlugin before every session plugin, with { hookName: \'onRequest\' }.', 500),
  NotByToken: createError('ORI_IDENTITY_NOT_BY_TOKEN',
    '@orientor/session-identity cannot identify a token by itself here. The rule: with the option "identify" the application identifies whole requests. Ask its own verifier instead, or register this plugin with an "issuer".', 500),
  AppVerifierFailed: createError('ORI_IDENTITY_APP_VERIFIER_FAILED', 'The verifier of the application could not check a token: %s.', 503),
  KeysUnavailable: createError('ORI_IDENTITY_KEYS_UNAVAILABLE', 'The keys of the issuer could not be loaded from %s: %s.', 503)
}

/** How long a client is asked to wait where the application's own verifier, or Clerk, cannot tell, in milliseconds. */
export const retryAfterMs = 5000

/** Codes of the errors above. */
export type SessionIdentityErrorCode = InstanceType<SessionIdentityErrors[keyof SessionIdentityErrors]>['code']
