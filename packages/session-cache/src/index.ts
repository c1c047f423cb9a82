export { default, sessionCache, type InvalidationTarget, type SessionCache } from './plugin.js'
export * from './core.js'
// Keeps the decorators of the contract in sight of whoever imports this package.
export type { SessionUser } from '@orientor/session-contract'
