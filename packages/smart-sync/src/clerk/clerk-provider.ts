import type { Deadline } from '@orientor/session-contract/core'
import { errors } from '../errors.js'
import type { IdentityProvider, LookUpPriority, ProviderAnswer } from '../identity-provider.js'
import { ClerkApi, type ClerkApiOptions } from './clerk-api.js'
import { readClerkUser } from './clerk-user.js'

/** Options of ClerkProvider. */
export interface ClerkProviderOptions extends ClerkApiOptions {
  /** The issuer whose users are asked for; null: any. */
  readonly issuer: string | null
}

type FailedAnswer = ProviderAnswer & { readonly kind: 'failed' }

/** The most ids that one request may name. */
const maxIds = 100
/** A hundred of the longest keep the URL below 8 KB. Those of Clerk have 27 characters after the prefix. */
const userId = /^user_\w{1,64}$/

/** Clerk as the identity provider: users in groups of a hundred, all groups at once. */
export class ClerkProvider implements IdentityProvider {
  readonly #api: ClerkApi
  readonly #issuer: string | null

  constructor (options: ClerkProviderOptions) {
    this.#api = new ClerkApi(options)
    this.#issuer = options.issuer
  }

  serves (issuer: string): boolean {
    return this.#issuer === null || this.#issuer === issuer
  }

  /** A subject that is no user id of Clerk's is unknown without being asked for. */
  async lookUp (
    _issuer: string, subjects: readonly string[], deadline: Deadline, priority: LookUpPriority = 'interactive'
  ): Promise<ReadonlyMap<string, ProviderAnswer>> {
    const answers = new Map<string, ProviderAnswer>(subjects.map(subject => [subject, { kind: 'unknown' }]))
    const askable = [...answers.keys()].filter(subject => userId.test(subject))
    const groups = Array.from({ length: Math.ceil(askable.length / maxIds) }, (_, index) => {
      return askable.slice(index * maxIds, (index + 1) * maxIds)
    })
    await Promise.all(groups.map(async group => {
      const found = await this.#list(new Set(group), deadline, priority)
      for (const subject of group) {
        const answer = found instanceof Map ? found.get(subject) : found
        if (answer !== undefined) answers.set(subject, answer)
      }
    }))
    return answers
  }

  async #list (
    group: ReadonlySet<string>, deadline: Deadline, priority: LookUpPriority
  ): Promise<ReadonlyMap<string, ProviderAnswer> | FailedAnswer> {
    const result = await this.#api.listUsers([...group], deadline, priority)
    if (result.kind === 'failed') return result
    if (!Array.isArray(result.body)) return garbled('its answer is not a list of users')
    const found = new Map<string, ProviderAnswer>()
    for (const entry of result.body) {
      const user = readClerkUser(entry)
      // One entry that cannot be read, or was not asked for, makes every absence doubtful.
      if (user === null) return garbled('its answer is not a list of users')
      if (!group.has(user.subject)) return garbled('its answer holds a user who was not asked for')
      found.set(user.subject, { kind: 'found', profile: user.profile, version: user.version })
    }
    return found
  }
}

function garbled (why: string): FailedAnswer {
  return { kind: 'failed', error: new errors.ProviderUnavailable(why) }
}
