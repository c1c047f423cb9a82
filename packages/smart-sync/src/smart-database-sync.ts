import type {
  Clock, Deadline, LoadRequest, UserChange, UserRecord, UserSource, WatchedTable
} from '@orientor/session-contract/core'
import type { ClaimNames } from './claims-profile.js'
import type { IdentityProvider } from './identity-provider.js'
import type { Observation } from './observation.js'
import { ObservationApplier, type ApplyOptions, type UnreadableLetter } from './observation-applier.js'
import { RequestLane } from './request-lane.js'
import type { ProviderLog } from './provider-watch.js'
import type { SyncOutcome } from './sync-outcome.js'
import { SyncStats } from './sync-stats.js'
import type { ParseProfile } from './user-record.js'
import type { DeletionPolicy, UserStore } from './user-store.js'
import { UserWriter, type WriterLog } from './user-writer.js'

/** Options of SmartDatabaseSync; the plugin fills in the defaults. */
export interface SmartDatabaseSyncOptions {
  readonly store: UserStore
  /** null: profiles come from the claims of the token. */
  readonly provider: IdentityProvider | null
  readonly claims: ClaimNames
  /** The time for which a row without news from the provider is taken as it is, in milliseconds. */
  readonly forceSyncAfterMs: number
  readonly parseProfile: ParseProfile | null
  readonly clock: Clock
  /** The fate of the row of a user who was deleted at the provider. Default is `deactivate`. */
  readonly deletionPolicy?: DeletionPolicy
  /** The log of what a person should look at: dead letters, addresses that another row has, the provider. Default: none. */
  readonly log?: WriterLog & ProviderLog
  /** Resolves when the store can be asked. Default: at once. */
  readonly ready?: () => Promise<void>
}

/**
 * The users table, kept in step with the identity provider: a source of users for requests (load()), and the one place
 * where whatever is learned of users is stored (apply()).
 */
export class SmartDatabaseSync implements UserSource {
  readonly stats: SyncStats = new SyncStats()
  readonly #options: SmartDatabaseSyncOptions
  readonly #writer: UserWriter
  readonly #requests: RequestLane
  readonly #applier: ObservationApplier

  constructor (options: SmartDatabaseSyncOptions) {
    const { store, deletionPolicy = 'deactivate', forceSyncAfterMs, log } = options
    this.#options = options
    this.#writer = new UserWriter({ store, stats: this.stats, deletionPolicy, forceSyncAfterMs, log })
    this.#requests = new RequestLane({ ...options, writer: this.#writer, stats: this.stats })
    this.#applier = new ObservationApplier({ ...options, writer: this.#writer, stats: this.stats })
  }

  get watches (): readonly WatchedTable[] {
    return this.#options.store.watches
  }

  async ready (): Promise<void> {
    await this.#options.ready?.()
  }

  /** The reason why the provider could not be asked the last time; null when it could. */
  get lastProviderFailure (): Error | null {
    return this.#requests.lastProviderFailure
  }

  /** News of what this instance wrote itself. */
  onChange (listener: (change: UserChange) => void): () => void {
    return this.#writer.onChange(listener)
  }

  /** Users for requests, compared with the provider where that is due; see RequestLane. */
  load (batch: readonly LoadRequest[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>> {
    return this.#requests.load(batch, deadline)
  }

  /** Resolves when nothing goes on behind that a load began. */
  async idle (): Promise<void> {
    await this.#requests.idle()
  }

  /** Gives up what goes on behind, and waits for what it is writing. */
  async close (): Promise<void> {
    await this.#requests.close()
  }

  /**
   * Stores observations, whatever their order, and however often each is given: the rows are the same in the end. (Of
   * profiles without a version, given one after the other, the last counts.) Reads first, and writes only what is news;
   * a row that is in step is noted as such once per `forceSyncAfterMs`.
   *
   * Everything is committed when it resolves, with one outcome per observation, in their order. An observation that the
   * table refuses, or that dates a user more than 24 hours ahead, is kept as a dead letter, and spoils no other.
   *
   * @throws SourceUnavailable when some could not be stored; what was stored stays, and applying all again does no
   *   harm; ORI_SYNC_INVALID_OBSERVATION, before anything is stored, when one was not made by observe(), sessionEnded()
   *   or userDeleted()
   */
  async apply (observations: readonly Observation[], options: ApplyOptions): Promise<readonly SyncOutcome[]> {
    return await this.#applier.apply(observations, options)
  }

  /**
   * Keeps something that was received and cannot be read as an observation. Committed when it resolves.
   *
   * @throws SourceUnavailable when it could not be kept
   */
  async deadLetter (letter: UnreadableLetter, deadline: Deadline): Promise<void> {
    await this.#applier.deadLetter(letter, deadline)
  }
}
