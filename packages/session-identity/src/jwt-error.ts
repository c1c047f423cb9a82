/** Whether an error of `@fastify/jwt` says that the request carries no credentials. */
export function isWithoutCredentials (error: unknown): boolean {
  return codeOf(error).startsWith('FST_JWT_NO_AUTHORIZATION_')
}

/** Whether an error of `@fastify/jwt`, or of the verifier under it, is its verdict on a token. */
export function isVerdict (error: unknown): boolean {
  return /^FA?ST_JWT_/.test(codeOf(error))
}

function codeOf (error: unknown): string {
  const { code } = Object(error) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}
