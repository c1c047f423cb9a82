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

/** A webhook of Clerk, and what becomes of it. */
export const webhookSchema = {
  summary: 'Webhooks of Clerk, which keep the row of a user in step; each signed with a secret of CLERK_WEBHOOK_SECRETS',
  security: [{ webhook: [] }],
  body: {
    type: 'object',
    required: ['type', 'data'],
    properties: { type: { type: 'string' }, data: { type: 'object', additionalProperties: true } },
    additionalProperties: true
  },
  response: {
    200: {
      description: 'It is stored.',
      type: 'object',
      required: ['outcome'],
      properties: {
        outcome: {
          type: 'string',
          enum: ['created', 'updated', 'unchanged', 'outdated', 'tombstoned', 'unknown', 'dead_lettered']
        }
      }
    },
    204: { description: 'Nothing of it is stored here.', type: 'null' },
    400: problem('It is not signed with a secret of this app, not of now, or of another instance.'),
    413: problem('It is too long.'),
    415: problem('It is not JSON.'),
    503: problem('It could not be stored; its sender is to send it again (header retry-after).')
  }
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
