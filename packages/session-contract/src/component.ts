import type { Deadline } from './deadline.js'
import type { SessionKey } from './session-key.js'

/** A value, or a promise of it where it cannot be had at once. */
export type Sync<T> = T | Promise<T>

/** Counts per bucket: `counts[i]` values were at most `bounds[i]`; one more count at the end for those above all bounds. */
export interface Distribution {
  readonly bounds: readonly number[]
  readonly counts: readonly number[]
  readonly sum: number
  readonly count: number
}

/** One measured quantity. Instruments are declared beside the counters that they read. */
export interface Instrument {
  /** Dotted, after OpenTelemetry's semantic conventions. */
  readonly name: string
  readonly kind: 'counter' | 'gauge' | 'histogram'
  readonly unit: string
  readonly help: string
  read (): ReadonlyArray<{ readonly labels: Readonly<Record<string, string>>, readonly value: number | Distribution }>
}

/** How a component does. */
export interface Health {
  readonly status: 'healthy' | 'degraded' | 'unhealthy'
  /** One plain sentence without secrets or personal data. */
  readonly reason: string
  readonly checkedAtMs: number
}

/** What the admin routes may ask of a component. */
export interface Admin {
  /** Resolves with the number of instances that were told, or null when that cannot be known. */
  invalidate (target: { readonly key: SessionKey } | 'all', reason: string): Promise<{ readonly instances: number | null }>
  preload (keys: readonly SessionKey[], deadline: Deadline): Promise<{ readonly loaded: number }>
  recent (limit: number): Promise<readonly SessionKey[]>
}

/** What a plugin shows of itself to the monitoring routes. */
export interface Component {
  /** `sessionIdentity`, `sessionCache`, `databaseSync` or `connectionPool`. */
  readonly name: string
  readonly instruments: readonly Instrument[]
  health (): Sync<Health>
  stats (): Readonly<Record<string, number>>
  readonly admin?: Partial<Admin>
}
