/**
 * The way in which an instance hears of changes: it polls over the pool of the app (`app`, the simplest use), and has a bell over
 * NOTIFY beside (`bell`); over a connection of its own that is made by the configuration of a pool of node-postgres
 * (`own`), or over a pool that has none to spare and comes back as it was left (`borrowed`); it listens as the
 * release before did (`notify`); or not at all, so that its users live until they expire (`none`).
 */
export type Hearing = 'app' | 'bell' | 'own' | 'borrowed' | 'notify' | 'none'

/**
 * The settings of an instance, from the process that starts it; passed as JSON in the variable CLUSTER_INSTANCE. Times are
 * milliseconds.
 */
export interface InstanceSettings {
  readonly name: string
  /** Where the pool of the app connects to. */
  readonly databaseUrl: string
  readonly hearing: Hearing
  /** Where polls go, or the connection of a bell or a bus that listens, that do not take the pool of the app. */
  readonly busUrl: string
  readonly issuer: string
  readonly jwksUrl: string
  readonly maxStalenessMs: number
  readonly staleIfErrorMs: number
  readonly expireAfterMs: number
  readonly pollIntervalMs: number
  readonly pollTimeoutMs: number
  readonly loadTimeoutMs: number
}

/** What an instance can be told while it runs. */
export type InstanceOrder =
  /** Does nothing at all for so long: no timer fires, no socket is read. */
  | { readonly kind: 'stall', readonly ms: number }
  /** Sets the wall clock forth or back. */
  | { readonly kind: 'shift clock', readonly ms: number }
  /** Runs SQL on the borrowed connection, and gives that back as the SQL left it. */
  | { readonly kind: 'run', readonly sql: string }

/** What an instance tells. */
export interface InstanceNews {
  readonly kind: 'listening'
  readonly url: string
}

/** What `GET /me` answers. */
export interface View {
  readonly instance: string
  readonly subject: string
  /** The column that is changed. */
  readonly firstName: string | null
  /** Marked: may be older than the bound. */
  readonly stale: boolean
  /** When the user was loaded, on the instance's wall clock. */
  readonly cachedAtMs: number
  readonly trusted: boolean
  readonly epoch: number
}
