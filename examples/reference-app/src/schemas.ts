/** Shapes of the answers, for serialising and for the OpenAPI document. */

const textOrNull = { type: ['string', 'null'] } as const
const timeOrNull = { type: ['integer', 'null'], description: 'Milliseconds since the epoch.' } as const

const user = {
  type: 'object',
  required: ['userId', 'issuer', 'subject', 'email', 'firstName', 'lastName', 'isActive', 'onboardingCompleted', 'providerUpdatedAt', 'profile'],
  properties: {
    userId: { type: 'string', description: 'The local id.' },
    issuer: { type: 'string' },
    subject: { type: 'string', description: 'The id at the provider.' },
    email: textOrNull,
    firstName: textOrNull,
    lastName: textOrNull,
    isActive: { type: 'boolean' },
    onboardingCompleted: { type: 'boolean' },
    providerUpdatedAt: timeOrNull,
    profile: { type: ['object', 'null'], additionalProperties: true }
  }
} as const

const outcome = {
  type: 'object',
  required: ['kind', 'stale', 'from', 'cachedAtMs', 'dbSynced', 'lastSyncedAtMs'],
  properties: {
    kind: { type: 'string', const: 'user' },
    stale: { type: 'boolean' },
    from: { type: 'string', enum: ['cache', 'source'] },
    cachedAtMs: { type: 'integer', description: 'When the user was loaded, in milliseconds since the epoch.' },
    dbSynced: { type: 'boolean', description: 'False: the last sync with the provider failed.' },
    lastSyncedAtMs: timeOrNull
  }
} as const

const problem = (description: string) => ({
  description,
  content: {
    'application/problem+json': {
      schema: {
        type: 'object',
        properties: { type: { type: 'string' }, title: { type: 'string' }, status: { type: 'integer' }, detail: { type: 'string' }, code: { type: 'string' } }
      }
    }
  }
})

/** A user, and how the request came by it. */
export const sessionAnswer = {
  type: 'object',
  required: ['user', 'outcome'],
  properties: { user, outcome }
} as const

/** Where nobody need be signed in. */
export const publicAnswer = {
  type: 'object',
  required: ['message', 'userId'],
  properties: { message: { type: 'string' }, userId: { ...textOrNull, description: 'Who asks; null: nobody known.' } }
} as const

/** What a route that needs a session may answer besides. */
export const refusals = {
  400: problem('The credentials cannot be read.'),
  401: problem('There are no credentials, or they are not accepted.'),
  403: problem('The user is not active.'),
  503: problem('The session cannot be checked right now; see Retry-After.')
} as const
