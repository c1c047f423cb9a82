export { ManualClock } from './manual-clock.js'
export { PostgresServer, startPostgres, type PostgresOptions } from './postgres/postgres-server.js'
export { canReach, serverAccount, type ServerAccount } from './postgres/server-account.js'
export { testDatabase, type TestDatabase, type Teardown } from './postgres/test-database.js'
