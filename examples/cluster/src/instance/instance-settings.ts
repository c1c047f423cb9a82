/** What an instance is told by whoever starts it; passed as JSON in the variable CLUSTER_INSTANCE. */
export interface InstanceSettings {
  readonly name: string
  /** Where the pool connects to. */
  readonly databaseUrl: string
  /** Where the bus listens; null: the instance has no bus, and its users live until they expire. */
  readonly listenUrl: string | null
  readonly issuer: string
  readonly jwksUrl: string
  readonly maxStalenessMs: number
  readonly staleIfErrorMs: number
  readonly expireAfterMs: number
  readonly heartbeatIntervalMs: number
  readonly heartbeatTimeoutMs: number
  readonly loadTimeoutMs: number
}

/** What an instance can be told while it runs. */
export type InstanceOrder =
  /** Does nothing at all for so long: no timer fires, no socket is read. */
  | { readonly kind: 'stall', readonly ms: number }
  /** Sets the wall clock forth or back. */
  | { readonly kind: 'shift clock', readonly ms: number }

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
