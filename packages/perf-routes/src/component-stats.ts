import type { Component } from '@orientor/session-contract/core'

/** What one component counts; a key that it does not have is null. */
export type Stats = Readonly<Record<string, number>>

/** The counts of all components by name. Of two with one name the one of the nearest scope is taken; one that cannot tell has none. */
export function readStats (components: readonly Component[]): ReadonlyMap<string, Stats> {
  return new Map(components.map(component => [component.name, statsOf(component)]))
}

/** One count, or null where it is not known. */
export function count (stats: Stats | undefined, key: string): number | null {
  return stats?.[key] ?? null
}

/** `part / whole`; null where either is not known or the whole is nothing. */
export function ratioOf (part: number | null, whole: number | null): number | null {
  return part === null || whole === null || whole <= 0 ? null : part / whole
}

/** The sum; null where either is not known. */
export function plus (left: number | null, right: number | null): number | null {
  return left === null || right === null ? null : left + right
}

function statsOf (component: Component): Stats {
  try {
    return Object.fromEntries(Object.entries(component.stats()).filter(([, value]) => Number.isFinite(value)))
  } catch {
    return {}
  }
}
