export * from './core.js'
export { sessionHub, type SessionHub } from './hub/session-hub.js'
export { requireSessionUser } from './hub/require-session-user.js'
export type { Slots } from './hub/slots.js'
