export { postgresBus, triggerSql } from './coherence/postgres-bus.js'
export type { PostgresBusOptions } from './coherence/postgres-bus-options.js'
export { strictTimes, type LeaseTimes } from './coherence/lease-times.js'
