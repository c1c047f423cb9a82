/** What both routes answer: the same shape, through the same serialiser. */
export interface Reply {
  readonly id: string
  readonly email: string | null
}

export const replySchema = {
  schema: {
    response: {
      200: { type: 'object', required: ['id', 'email'], properties: { id: { type: 'string' }, email: { type: ['string', 'null'] } } }
    }
  }
} as const

/** The e-mail of the user with this number; also what those answer who look no user up. */
export function emailOf (user: number): string {
  return `user-${user}@example.com`
}
