import type { Clock, Instrument } from '@orientor/session-contract/core'
import type { BusStatus } from './invalidation-bus.js'
import type { Trust } from './trust.js'

/** The counters of a bus. */
export class BusCounters {
  /**
   * Changes of one user (`users`) and of all (`all`) that were announced to this instance, by polls and by the bell.
   */
  users = 0
  all = 0
  /** Rings heard. */
  rings = 0
  /** Rings that could not be read. */
  unreadable = 0
}

/** The instruments by which monitoring sees a bus. */
export function busInstruments (
  trust: Trust & { readonly polls: number }, counters: BusCounters, status: () => BusStatus, clock: Clock
): readonly Instrument[] {
  const instrument = (
    kind: Instrument['kind'], name: string, unit: string, help: string, read: Instrument['read']
  ): Instrument => ({ name: `orientor.session_cache.${name}`, kind, unit, help, read })
  const one = (value: number): ReturnType<Instrument['read']> => [{ labels: {}, value }]
  const announcements: Instrument['read'] = () => [
    { labels: { kind: 'user' }, value: counters.users }, { labels: { kind: 'all' }, value: counters.all }
  ]
  const rings: Instrument['read'] = () => [
    { labels: { kind: 'readable' }, value: counters.rings - counters.unreadable },
    { labels: { kind: 'unreadable' }, value: counters.unreadable }
  ]
  return Object.freeze([
    instrument('gauge', 'trust', '1', 'Whether every change is proven to be announced: 1 or 0', () => {
      return one(status().trusted ? 1 : 0)
    }),
    instrument('gauge', 'trust.age', 's', 'Time since the last proof; nothing while nothing is proven', () => {
      return trust.provenAtMs === -Infinity ? [] : one((clock.monotonic() - trust.provenAtMs) / 1000)
    }),
    instrument('counter', 'trust.epochs', '{epoch}', 'Unbroken runs of answers that began', () => one(trust.epoch)),
    instrument(
      'counter', 'bus.announcements', '{announcement}', 'Announcements that arrived, by what they name', announcements
    ),
    instrument('counter', 'bus.polls', '{poll}', 'Polls sent', () => one(trust.polls)),
    instrument(
      'counter', 'bus.rings', '{ring}', 'Rings of the bell that were heard, by whether they could be read', rings
    ),
    instrument('gauge', 'bus.instances', '{instance}', 'Instances that poll; nothing while that is not known', () => {
      const { instances } = status()
      return instances === null ? [] : one(instances)
    })
  ])
}
