import type { PostgresFaults } from '@orientor/test-kit'
import type { Cluster, Member, Writer } from '../harness/index.js'

/** Where a fault is injected. */
export interface Stage {
  readonly cluster: Cluster
  readonly faults: PostgresFaults
  /** The instance that is struck by what strikes only one. */
  readonly member: Member
  /** Who changes the users. */
  readonly writer: Writer
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

/** A fault, and what is expected of it beside what always holds: no user older than the bound, none that goes back, none mixed up. */
export interface Scenario {
  readonly name: string
  readonly durationMs: number
  readonly trust: TrustCourse
  /** True: the instance gets out of it by itself while the fault lasts, so everything counts from the injection. Default is false. */
  readonly healsItself?: boolean
  /** What goes through PgBouncer in transaction mode. Default is nothing. */
  readonly throughPgBouncer?: 'listen' | 'everything'
  inject (stage: Stage): Promise<Injected>
}
