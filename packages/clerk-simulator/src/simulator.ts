import { notAllowed } from './clerk-error.js'
import { clerkId } from './clerk-id.js'
import type { ClerkUser, NewUserInput, UserInput } from './clerk-user.js'
import { FaultyEndpoint, type UsersFault } from './endpoint-fault.js'
import { type ClerkSession, SessionDirectory, type SessionEnd } from './session-directory.js'
import { SessionTokens, type SignClaims, type TokenOptions } from './session-tokens.js'
import { KeyRing, type RotationInput } from './key-ring.js'
import type { PublicJwk, SigningKey } from './signing-key.js'
import type { SimulatorClock } from './simulator-clock.js'
import { UserDirectory } from './user-directory.js'
import { filterUsers, pageOfUsers, type Query } from './user-query.js'
import type { WebhookFaults } from './webhook-faults.js'
import {
  type Delivery, type WebhookEndpoint, type WebhookEndpointInput, type WebhookEvent, WebhookSender
} from './webhook-sender.js'

/** The faults, by the place where they occur. `set(null)` ends one. */
export interface Faults {
  /** At `/.well-known/jwks.json` and `/v1/jwks`. */
  readonly jwks: FaultyEndpoint
  /** At `/v1/users` and below. */
  readonly users: FaultyEndpoint<UsersFault>
  /** Between the simulator and the webhook endpoints. */
  readonly webhooks: WebhookFaults
}

/** For whom to mint a token. */
export interface MintInput extends TokenOptions {
  readonly userId: string
  /** Default is the latest active session of the user, or a new one. */
  readonly sessionId?: string
}

/** Whom to sign out. */
export interface SignOutInput {
  readonly userId: string
  /** Default is every active session of the user. */
  readonly sessionId?: string
  /** Default is `ended`. */
  readonly how?: SessionEnd
}

/** What a simulator consists of. */
export interface SimulatorParts {
  readonly clock: SimulatorClock
  readonly key: SigningKey
  readonly sign: SignClaims
  readonly secretKey: string
  readonly webhookSecret: string
  readonly webhookRetryDelaysMs: readonly number[]
  readonly maxRemembered: number
  readonly seed: number
  /** The chance that decides about webhooks: a number from 0 up to 1. */
  readonly random: () => number
  readonly authorizedParty: string
  /** The origin at which the app listens. */
  readonly origin: () => string
  /** The `iss` of tokens when it is not the origin. */
  readonly issuer: string | undefined
}

/** One simulated instance of Clerk: its users, sessions and tokens. Every change is told to the webhook endpoints. */
export class Simulator {
  /** The faults. */
  readonly faults: Faults
  readonly #parts: SimulatorParts
  readonly #keys: KeyRing
  readonly #users: UserDirectory
  readonly #sessions: SessionDirectory
  readonly #tokens: SessionTokens
  readonly #webhooks: WebhookSender
  readonly #requestCounts = new Map<string, number>()

  constructor (parts: SimulatorParts) {
    this.#parts = parts
    this.#keys = new KeyRing(parts.key)
    this.#users = new UserDirectory(parts.clock)
    this.#sessions = new SessionDirectory(parts.clock)
    this.#tokens = new SessionTokens(parts.clock, parts.sign)
    this.#webhooks = new WebhookSender({
      clock: parts.clock,
      random: parts.random,
      defaultSecret: parts.webhookSecret,
      retryDelaysMs: parts.webhookRetryDelaysMs,
      maxRemembered: parts.maxRemembered
    })
    const users = new FaultyEndpoint<UsersFault>()
    this.faults = Object.freeze({ jwks: new FaultyEndpoint(), users, webhooks: this.#webhooks.faults })
  }

  /** The `iss` of session tokens: the option, or the origin at which the app listens. */
  get issuer (): string { return this.#parts.issuer ?? this.#parts.origin() }
  /** Where the public keys are served. */
  get jwksUrl (): string { return `${this.#parts.origin()}/.well-known/jwks.json` }
  /** The base of the Backend API. */
  get apiUrl (): string { return `${this.#parts.origin()}/v1` }
  /** The bearer of the Backend API. */
  get secretKey (): string { return this.#parts.secretKey }
  /** The secret of webhook endpoints that were given none. */
  get webhookSecret (): string { return this.#parts.webhookSecret }
  /** The seed of chance: the same seed and the same calls make the same faults. */
  get seed (): number { return this.#parts.seed }
  /** The latest events, 1000 unless told otherwise, in the order in which they happened, sent or not. */
  get events (): readonly WebhookEvent[] { return this.#webhooks.events }
  /** The id of the instance, and the `kid` of its first key. */
  get instanceId (): string { return this.#parts.key.kid }
  /** The public keys. */
  get jwks (): { readonly keys: readonly PublicJwk[] } { return this.#keys.jwks }
  /** How many requests came in so far, by method and route (`GET /v1/users/:id`), refused ones included. */
  get requestCounts (): Readonly<Record<string, number>> { return Object.fromEntries(this.#requestCounts) }

  /** Counts a request. */
  countRequest (route: string): void {
    this.#requestCounts.set(route, (this.#requestCounts.get(route) ?? 0) + 1)
  }

  /**
   * One page of users, by the parameters of `GET /v1/users`.
   *
   * @param shift - how many rows later a page begins that is not the first
   */
  listUsers (query: Query, shift = 0): readonly ClerkUser[] {
    return pageOfUsers(this.#users.all(), query, shift)
  }

  /** How many users match the parameters of `GET /v1/users/count`. */
  countUsers (query: Query): number {
    return filterUsers(this.#users.all(), query).length
  }

  /** @throws ClerkError 404 when there is no such user */
  getUser (id: string): ClerkUser {
    return this.#users.get(id)
  }

  /** Makes a user; sends `user.created`. */
  async createUser (input: NewUserInput = {}): Promise<ClerkUser> {
    const user = this.#users.create(input)
    this.#tell('user.created', inWebhook(user))
    return user
  }

  /** Changes a user; sends `user.updated`. */
  async updateUser (id: string, input: UserInput): Promise<ClerkUser> {
    const user = this.#users.update(id, input)
    this.#tell('user.updated', inWebhook(user))
    return user
  }

  /** Bans a user and revokes the active sessions; sends `user.updated` and one `session.revoked` per session. */
  async banUser (id: string): Promise<ClerkUser> {
    const user = this.#users.setBanned(id, true)
    this.#tell('user.updated', inWebhook(user))
    for (const session of this.#sessions.activeOf(id)) this.#end(session, 'revoked')
    return user
  }

  /** Lifts the ban; sends `user.updated`. The sessions stay revoked. */
  async unbanUser (id: string): Promise<ClerkUser> {
    const user = this.#users.setBanned(id, false)
    this.#tell('user.updated', inWebhook(user))
    return user
  }

  /** Deletes a user and the sessions; sends `user.deleted` only, which has no `updated_at`. */
  async deleteUser (id: string): Promise<void> {
    const user = this.#users.delete(id)
    this.#sessions.forget(id)
    this.#tell('user.deleted', { id, object: 'user', deleted: true, ...user.external_id !== null && { external_id: user.external_id } })
  }

  /** Signs a user in; sends `session.created`. @throws ClerkError 422 when the user is banned */
  async createSession (userId: string): Promise<ClerkSession> {
    if (this.#users.get(userId).banned) throw notAllowed('user_banned', `The user ${userId} is banned`)
    this.#users.signedIn(userId)
    const session = this.#sessions.open(userId)
    this.#tellOfSession('session.created', session)
    return session
  }

  /** Ends one session of a user, or all; sends `session.ended`, `session.removed` or `session.revoked` for each. */
  async signOut ({ userId, sessionId, how = 'ended' }: SignOutInput): Promise<readonly ClerkSession[]> {
    this.#users.get(userId)
    const sessions = sessionId === undefined ? this.#sessions.activeOf(userId) : [this.#activeSession(sessionId, userId)]
    return sessions.map(session => this.#end(session, how))
  }

  /** A signed session token. @throws ClerkError 404 for an unknown user or session, 422 for a banned user or a session that is over */
  async mintToken ({ userId, sessionId, ...options }: MintInput): Promise<string> {
    this.#users.get(userId)
    const session = sessionId === undefined
      ? this.#sessions.activeOf(userId).at(-1) ?? await this.createSession(userId)
      : this.#activeSession(sessionId, userId)
    return this.#tokens.mint({ issuer: this.issuer, authorizedParty: this.#parts.authorizedParty, key: this.#keys.current }, session, options)
  }

  /** Makes a key that signs from now on, and publishes it; resolves to its `kid`. Tokens of the keys so far count as long as those are published. */
  async rotateKey ({ kid = clerkId('ins', this.#parts.clock.now()), overlap = true }: RotationInput = {}): Promise<string> {
    await this.#keys.rotate(kid, overlap)
    return kid
  }

  /** Publishes a key no longer. @throws ClerkError 404 when there is no such key */
  async withdrawKey (kid: string): Promise<void> {
    this.#keys.withdraw(kid)
  }

  /** Registers a webhook endpoint; from now on every event is sent to it. */
  async addWebhookEndpoint (input: WebhookEndpointInput): Promise<WebhookEndpoint> {
    return this.#webhooks.addEndpoint(input)
  }

  /** Unregisters a webhook endpoint. */
  async removeWebhookEndpoint (id: string): Promise<void> {
    this.#webhooks.removeEndpoint(id)
  }

  /**
   * The latest deliveries, 1000 unless told otherwise, in the order in which they ended, once everything sent so far is
   * through, retries included.
   */
  async deliveries (): Promise<readonly Delivery[]> {
    return await this.#webhooks.deliveries()
  }

  /**
   * Sends a message once more, under the same id, whatever became of it.
   *
   * @throws ClerkError 404 when it or its endpoint is unknown
   */
  async redeliver (messageId: string): Promise<Delivery> {
    return await this.#webhooks.redeliver(messageId)
  }

  /** Gives up deliveries under way, and ends requests that a fault holds. */
  async close (): Promise<void> {
    this.faults.jwks.close()
    this.faults.users.close()
    await this.#webhooks.close()
  }

  #activeSession (id: string, userId: string): ClerkSession {
    const session = this.#sessions.get(id, userId)
    if (session.status !== 'active') throw notAllowed('session_not_active', `The session ${id} is ${session.status}`)
    return session
  }

  #end (session: ClerkSession, how: SessionEnd): ClerkSession {
    const over = this.#sessions.end(session, how)
    this.#tellOfSession(`session.${how}`, over)
    return over
  }

  #tellOfSession (type: string, session: ClerkSession): void {
    this.#tell(type, { ...session, user: inWebhook(this.#users.get(session.user_id)) })
  }

  #tell (type: string, data: unknown): void {
    this.#webhooks.send({
      data,
      event_attributes: { http_request: { client_ip: '127.0.0.1', user_agent: 'clerk-simulator' } },
      instance_id: this.instanceId,
      object: 'event',
      timestamp: this.#parts.clock.now(),
      type
    })
  }
}

/** Webhooks do not carry private metadata. */
function inWebhook (user: ClerkUser): ClerkUser {
  return { ...user, private_metadata: null }
}
