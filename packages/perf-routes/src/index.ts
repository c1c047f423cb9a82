export * from './core.js'
export { default, perfRoutes, type PerfRoutes } from './plugin.js'
export type { SessionUser } from '@orientor/session-contract'
