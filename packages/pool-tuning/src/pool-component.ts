import type { Component, Instrument } from '@orientor/session-contract/core'
import type { DatabaseConnectionOptimizer } from './database-connection-optimizer.js'

/** What the monitoring routes see of a pool; names after OpenTelemetry's database client metrics. */
export function poolComponent (optimizer: DatabaseConnectionOptimizer): Component {
  const { pool } = optimizer
  const gauge = (name: string, unit: string, help: string, read: () => ReadonlyArray<readonly [Record<string, string>, number]>): Instrument =>
    ({ name, kind: 'gauge', unit, help, read: () => read().map(([labels, value]) => ({ labels, value })) })
  const counter = (name: string, unit: string, help: string, read: () => number): Instrument =>
    ({ name, kind: 'counter', unit, help, read: () => [{ labels: {}, value: read() }] })
  return {
    name: 'connectionPool',
    instruments: [
      gauge('db.client.connection.count', '{connection}', 'Connections by state', () => {
        const { idle, total } = pool.stats()
        return [[{ state: 'idle' }, idle], [{ state: 'used' }, total - idle]]
      }),
      gauge('db.client.connection.max', '{connection}', 'Connections that the pool may open', () => [[{}, pool.limit]]),
      gauge('db.client.connection.pending_requests', '{request}', 'Requests that wait for a connection', () => [[{}, pool.stats().waiting]]),
      counter('db.client.connection.timeouts', '{timeout}', 'Requests that got no connection in time', () => pool.stats().timeouts),
      counter('orientor.pool.checkouts', '{checkout}', 'Connections lent', () => pool.stats().checkouts),
      counter('orientor.pool.lost', '{connection}', 'Connections that ended by themselves', () => pool.stats().lost),
      counter('orientor.pool.retries', '{retry}', 'Statements and attempts to connect that were sent again', () => pool.stats().retries)
    ],
    health: () => optimizer.health(),
    stats: () => {
      const stats = pool.stats()
      const { size, maxOverflow } = optimizer
      return Object.freeze({ ...stats, active: stats.lent, size, maxOverflow })
    }
  }
}
