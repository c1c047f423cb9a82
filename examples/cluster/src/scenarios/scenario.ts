import type { PostgresFaults, PostgresServer } from '@orientor/test-kit'
import type { Hearing } from '../instance/instance-settings.js'
import type { Cluster, Member, Readers, Writer } from '../harness/index.js'

/** Where a fault is injected. */
export interface Stage {
  readonly cluster: Cluster
  readonly faults: PostgresFaults
  readonly server: PostgresServer
  /** The second server; null where the scenario has none. */
  readonly spare: PostgresServer | null
  /** The instance that is struck by what strikes only one. */
  readonly member: Member
  /** The writer that changes the users. */
  readonly writer: Writer
  /** The readers that ask for them. */
  readonly readers: Readers
}

/** A fault that is going on. */
export interface Injected {
  /** What was done, for the report. */
  readonly what: string
  /** Undoes it; resolves when it is undone. */
  heal (): Promise<void>
}

/** What becomes of the trust in the bus: `kept` by all, `lost` by the struck ones and won back, `never` there, or `open`: not looked at, since it may be either. */
export type TrustCourse = 'kept' | 'lost' | 'never' | 'open'

/**
 * A second server, on a copy of the first one's data: `following` streams and is waited for by every commit,
 * `lagging` streams and shows all half a second late, `copy` goes its own way, once it is started.
 */
export type Spare = 'following' | 'lagging' | 'copy'

/** A fault, and what is expected of it beside what always holds: no user older than the bound, none that goes back, none mixed up. */
export interface Scenario {
  readonly name: string
  readonly durationMs: number
  readonly trust: TrustCourse
  /** True: the instance gets out of it by itself while the fault lasts, so everything counts from the injection. Default is false. */
  readonly healsItself?: boolean
  /**
   * True: the loads themselves are read late, so that an answer may go back behind an earlier one. Default is false.
   */
  readonly goesBack?: boolean
  /** True: it cannot be done again on the same cluster. Default is false. */
  readonly isOnce?: boolean
  /** The way in which instances hear of changes. Default is `app`. */
  readonly hearing?: Hearing
  /** Whether instances reach the database through PgBouncer in transaction mode only. Default is false. */
  readonly throughPgBouncer?: boolean
  /** Parameters of a server of its own; left out: the one that scenarios share will do. */
  readonly server?: Readonly<Record<string, string>>
  /** The second server; then the first one is of its own, too. Default is none. */
  readonly spare?: Spare
  /** Parameters of every session of the first instance's pool. Default is none. */
  readonly firstOptions?: string
  /** Done once, before the first round. Default is nothing. */
  prepare? (stage: Stage): Promise<void>
  inject (stage: Stage): Promise<Injected>
}
