export { default, poolTuning } from './plugin.js'
export * from './core.js'
export type { SessionUser } from '@orientor/session-contract'
export type { PostgresDb } from '@fastify/postgres'
