export { postgresBus, strictTimes, triggerSql, type PostgresBusOptions } from './coherence/postgres-bus.js'
