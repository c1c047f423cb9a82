import type { Clock, Component, Health } from '@orientor/session-contract/core'
import type { Rating } from './rating.js'
import { within } from './within.js'

/** How a component does, in a word. */
export type HealthStatus = Health['status']

/** The health of one component; `absent` when no such plugin is in scope, which is no illness. */
export interface ComponentHealth {
  readonly status: HealthStatus | 'absent'
  readonly reason: string
  /** Wall clock, milliseconds since the epoch. */
  readonly checkedAtMs: number
}

/** How the service does, in the worst words that a component has for it. */
export interface HealthReport {
  readonly status: HealthStatus
  /** `sessionIdentity`, `sessionCache`, `databaseSync` and `connectionPool` always, and others that are in scope. */
  readonly components: Readonly<Record<string, ComponentHealth>>
  readonly performanceSummary: PerformanceSummary
}

/** The main figures of the performance report; null is "not known". */
export interface PerformanceSummary {
  readonly rating: Rating | null
  readonly databaseLoadReductionRatio: number | null
  readonly cacheHitRatio: number | null
  readonly syncSkipRatio: number | null
  readonly poolUtilisationRatio: number | null
  readonly averageResponseMs: number | null
}

/** Hears what a component threw, or that it did not answer in time. */
export type OnFailure = (component: string, error: unknown) => void

const expected = ['sessionIdentity', 'sessionCache', 'databaseSync', 'connectionPool'] as const
const statuses: readonly HealthStatus[] = ['unhealthy', 'degraded', 'healthy']
const severity: Readonly<Record<ComponentHealth['status'], number>> = { absent: 0, healthy: 1, degraded: 2, unhealthy: 3 }

/** Asks all components at once. Never rejects: one that throws, answers nonsense or does not answer in time is unhealthy. */
export async function checkComponents (components: readonly Component[], clock: Clock, onFailure: OnFailure): Promise<Readonly<Record<string, ComponentHealth>>> {
  const checkedAtMs = clock.now()
  const found = new Map<string, ComponentHealth>(expected.map(name => [name, { status: 'absent', reason: 'No such plugin is registered in this scope', checkedAtMs }]))
  await Promise.all(components.map(async component => {
    const health = await checked(component, clock, onFailure)
    const known = found.get(component.name)
    if (known === undefined || severity[health.status] > severity[known.status]) found.set(component.name, health)
  }))
  return Object.fromEntries(found)
}

/** The worst status; `healthy` when there is nothing to be ill. */
export function worstOf (components: Readonly<Record<string, ComponentHealth>>): HealthStatus {
  const found = new Set(Object.values(components).map(({ status }) => status))
  return statuses.find(status => found.has(status)) ?? 'healthy'
}

async function checked (component: Component, clock: Clock, onFailure: OnFailure): Promise<ComponentHealth> {
  try {
    const { status, reason, checkedAtMs } = await within(clock, () => component.health())
    if (statuses.includes(status) && typeof reason === 'string' && Number.isFinite(checkedAtMs)) return { status, reason, checkedAtMs }
    return { status: 'unhealthy', reason: 'The health check gave no valid answer', checkedAtMs: clock.now() }
  } catch (error) {
    onFailure(component.name, error)
    const late = error instanceof DOMException && error.name === 'TimeoutError'
    return { status: 'unhealthy', reason: late ? 'The health check did not answer in time' : 'The health check failed', checkedAtMs: clock.now() }
  }
}
