import type { Deadline } from '@orientor/session-contract/core'
import { errors } from '../errors.js'
import type { IdentityProvider, ProviderAnswer } from '../identity-provider.js'
import { ClerkApi, type ClerkApiOptions } from './clerk-api.js'
import { readClerkUser } from './clerk-user.js'

/** What the provider needs. */
export interface ClerkProviderOptions extends ClerkApiOptions {
  /** Whose users are asked for; null: everybody's. */
  readonly issuer: string | null
}

/** How many ids one request may name. */
const maxIds = 100
const userId = /^user_\w+$/

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
  async lookUp (_issuer: string, subjects: readonly string[], deadline: Deadline): Promise<ReadonlyMap<string, ProviderAnswer>> {
    const answers = new Map<string, ProviderAnswer>()
    for (const subject of subjects) if (!userId.test(subject)) answers.set(subject, { kind: 'unknown' })
    const askable = subjects.filter(subject => !answers.has(subject))
    const groups = Array.from({ length: Math.ceil(askable.length / maxIds) }, (_, index) => askable.slice(index * maxIds, (index + 1) * maxIds))
    await Promise.all(groups.map(async group => {
      const found = await this.#list(group, deadline)
      for (const subject of group) answers.set(subject, found instanceof Map ? found.get(subject) ?? { kind: 'unknown' } : found)
    }))
    return answers
  }

  async #list (group: readonly string[], deadline: Deadline): Promise<ReadonlyMap<string, ProviderAnswer> | (ProviderAnswer & { kind: 'failed' })> {
    const result = await this.#api.listUsers(group, deadline)
    if (result.kind === 'failed') return result
    const users = Array.isArray(result.body) ? result.body.map(readClerkUser) : [null]
    // One entry that cannot be read makes every absence doubtful.
    if (users.includes(null)) return { kind: 'failed', error: new errors.ProviderUnavailable('its answer is not a list of users') }
    return new Map(users.map(user => [user!.subject, { kind: 'found', profile: user!.profile, version: user!.version }]))
  }
}
