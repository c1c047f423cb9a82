import { seeded } from '../measure/random.js'
import { zipf } from '../measure/zipf.js'
import { contenderNames, contenders, type ContenderName } from './contenders.js'
import { hashesOf } from './population.js'

/** Requests that a load makes, as numbers of users. */
interface Load { readonly name: string, readonly users: number, readonly next: () => number }

/** Shares of requests that find their user, and the most entries that were held. */
export interface HitRates {
  readonly rates: Readonly<Record<string, Readonly<Record<ContenderName, number>>>>
  readonly mostEntries: Readonly<Record<ContenderName, number>>
}

/**
 * Loads over ten times as many users as entries: Zipf 0.8, Zipf 1.0, and a scan: every second request is of Zipf 1.0, every other of a
 * user who comes by once, in order, as an export or an attack does.
 */
function loads (maxEntries: number, requests: number): Load[] {
  const users = maxEntries * 10
  const regular = zipf(users, 1, seeded(3))
  let turn = 0
  return [
    { name: 'Zipf 0.8', users, next: zipf(users, 0.8, seeded(1)) },
    { name: 'Zipf 1.0', users, next: zipf(users, 1, seeded(2)) },
    { name: 'scan', users: users + Math.ceil(requests / 2), next: () => ++turn % 2 === 0 ? regular() : users + (turn >>> 1) }
  ]
}

/** Every store gets the same requests, 20 per entry, and stores who was not found; the first fifth only warms up. */
export function hitRates (maxEntries: number): HitRates {
  const requests = maxEntries * 20
  const rates: Record<string, Record<ContenderName, number>> = {}
  const mostEntries = Object.fromEntries(contenderNames.map(name => [name, 0])) as Record<ContenderName, number>
  for (const { name: load, users, next } of loads(maxEntries, requests)) {
    const keys = hashesOf(users)
    const asked = Uint32Array.from({ length: requests }, next)
    const of = {} as Record<ContenderName, number>
    for (const name of contenderNames) {
      const store = contenders[name](maxEntries)
      let hits = 0
      asked.forEach((user, index) => {
        const key = keys[user]!
        if (store.get(key)) hits += index >= requests / 5 ? 1 : 0
        else store.set(key)
        mostEntries[name] = Math.max(mostEntries[name], store.size ?? 0)
      })
      of[name] = hits / (requests * 4 / 5)
    }
    rates[load] = of
  }
  return { rates, mostEntries }
}
