import type { Clock, Instrument } from '@orientor/session-contract/core'
import type { BusStatus } from './invalidation-bus.js'
import type { Trust } from './trust.js'

/** What a bus counts. */
export class BusCounters {
  /** Changes of one user, and of all, that were announced to this instance. */
  users = 0
  all = 0
  /** Notifications on the channel that are no announcements. */
  unreadable = 0
  /** Connections that were begun. */
  connections = 0
}

/** What a bus shows to monitoring. */
export function busInstruments (trust: Trust & { readonly beats: number }, counters: BusCounters, status: () => BusStatus, queueUsage: () => number, clock: Clock): readonly Instrument[] {
  const instrument = (kind: Instrument['kind'], name: string, unit: string, help: string, read: Instrument['read']): Instrument => ({
    name: `orientor.session_cache.${name}`, kind, unit, help, read
  })
  const one = (value: number): ReturnType<Instrument['read']> => [{ labels: {}, value }]
  return Object.freeze([
    instrument('gauge', 'trust', '1', 'Whether every change is proven to be announced: 1 or 0', () => one(status().trusted ? 1 : 0)),
    instrument('gauge', 'trust.age', 's', 'Time since the last proof; nothing while nothing is proven', () => {
      return trust.provenAtMs === -Infinity ? [] : one((clock.monotonic() - trust.provenAtMs) / 1000)
    }),
    instrument('counter', 'trust.epochs', '{epoch}', 'Unbroken runs of announcements that began', () => one(trust.epoch)),
    instrument('counter', 'bus.announcements', '{announcement}', 'Announcements that arrived, by what they name', () => [
      { labels: { kind: 'user' }, value: counters.users }, { labels: { kind: 'all' }, value: counters.all }, { labels: { kind: 'unreadable' }, value: counters.unreadable }
    ]),
    instrument('counter', 'bus.heartbeats', '{heartbeat}', 'Heartbeats sent', () => one(trust.beats)),
    instrument('counter', 'bus.connections', '{connection}', 'Connections begun', () => one(counters.connections)),
    instrument('gauge', 'bus.instances', '{instance}', 'Instances that listen; nothing while nobody can tell', () => {
      const { instances } = status()
      return instances === null ? [] : one(instances)
    }),
    instrument('gauge', 'bus.queue_usage', '1', 'Share of the queue of notifications that is in use', () => one(queueUsage()))
  ])
}
