export * from './core.js'
export { default, sessionIdentity, type SessionIdentity } from './plugin.js'
export type { SessionUser } from '@orientor/session-contract'
