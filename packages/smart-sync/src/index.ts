export * from './core.js'
export { default, smartSync, type SmartSync } from './plugin.js'
export type { SessionUser } from '@orientor/session-contract'
