export { postgresBus, triggerSql } from './coherence/postgres-bus.js'
export { strictTimes, type PostgresBusOptions } from './coherence/postgres-bus-options.js'
