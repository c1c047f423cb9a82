/** Most causes that are told of one error. */
const maxDepth = 5

/**
 * An error that says what another and its causes say, without the secret and without anything else that hangs on them:
 * an error of an HTTP client may carry the headers of its request. Keeps the first `code` that one of them has.
 */
export function withoutSecret (thrown: unknown, secret: string): Error & { readonly code?: string } {
  const messages: string[] = []
  let code: string | undefined
  let next = thrown
  for (let depth = 0; depth < maxDepth && next instanceof Error; depth++, next = next.cause) {
    messages.push(next.message)
    if ('code' in next && typeof next.code === 'string') code ??= next.code
  }
  const hidden = (text: string): string => text.replaceAll(secret, '[secret key]')
  const error = new Error(hidden(messages.join(': ')))
  return code === undefined ? error : Object.assign(error, { code: hidden(code) })
}
