import type { Slots } from '@orientor/session-contract'

/**
 * The application's own way from a request to its identity. What it throws with a status from 400 to 499 is a refusal with that status;
 * anything else is a defect.
 */
export type Identify = NonNullable<Slots['identify']>

/** A request of Fastify. */
export type IdentifiableRequest = Parameters<Identify>[0]
