import { buildInstance } from './instance-app.js'
import type { InstanceNews, InstanceOrder, InstanceSettings } from './instance-settings.js'

const settings = JSON.parse(process.env['CLUSTER_INSTANCE'] ?? 'null') as InstanceSettings | null
if (settings === null || process.send === undefined) throw new Error('An instance is started by the cluster, which tells it who it is.')

// Ctrl-C reaches the whole group of processes; whoever started this one decides when it ends, and it never outlives that one.
process.on('SIGINT', () => {})
process.once('disconnect', () => { process.exit(0) })
process.on('message', (order: InstanceOrder) => {
  if (order.kind === 'stall') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, order.ms)
  else if (order.kind === 'shift clock') shiftClock(order.ms)
  // The sender of the order sees what comes of it.
  else pool?.query(order.sql).catch(() => {})
})

const { app, pool } = await buildInstance(settings)
process.once('SIGTERM', () => { app.close().finally(() => { process.exit() }) })
const url = await app.listen({ host: '127.0.0.1', port: 0 })
process.send({ kind: 'listening', url } satisfies InstanceNews)

function shiftClock (ms: number): void {
  const shift = (globalThis as Record<symbol, unknown>)[Symbol.for('@orientor-examples/cluster/shift-clock')] as (ms: number) => void
  shift(ms)
}
