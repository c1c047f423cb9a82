export { ManualClock } from './manual-clock.js'
export { PostgresServer, startPostgres, type PostgresOptions } from './postgres/postgres-server.js'
export { testDatabase, type TestDatabase, type Teardown } from './postgres/test-database.js'
