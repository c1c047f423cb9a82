import { anonymous, outcomeOfThrown, unacceptedCredentials, type Unresolved } from '@orientor/session-contract/core'

/**
 * The outcome of a request whose verification threw, by `@fastify/jwt` or by what the application put around it: without credentials
 * anonymous, a verdict on the token without a status (as fast-jwt throws) a refusal, anything else what outcomeOfThrown() says.
 */
export function outcomeOfJwtError (error: unknown): Unresolved {
  if (isWithoutCredentials(error)) return anonymous
  const outcome = outcomeOfThrown(error)
  return outcome.kind === 'failed' && /^FA?ST_JWT_/.test(codeOf(error)) ? unacceptedCredentials : outcome
}

/** Whether an error of `@fastify/jwt` says that the request carries no credentials. */
export function isWithoutCredentials (error: unknown): boolean {
  return codeOf(error).startsWith('FST_JWT_NO_AUTHORIZATION_')
}

function codeOf (error: unknown): string {
  const { code } = Object(error) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}
