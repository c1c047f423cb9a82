import pg from 'pg'
import { DatabaseConnectionOptimizer } from '@orientor/pool-tuning/core'
import type { Pair, PoolPart, PoolTask, Slice } from './part.js'

// A process of its own: what the one before made of the compiler and the heap says nothing of this one.

type Work = (pool: pg.Pool) => Promise<unknown>

const query: Work = pool => pool.query('SELECT 1')
const checkout: Work = async pool => {
  const client = await pool.connect()
  await client.query('SELECT 1')
  client.release()
}
const fail: Work = pool => pool.query('INSERT INTO taken VALUES (1)').catch(() => {})

async function slice (pool: pg.Pool, work: Work, count: number): Promise<Slice> {
  const cpuBefore = process.cpuUsage()
  const before = performance.now()
  for (let index = 0; index < count; index++) await work(pool)
  const wallMicros = (performance.now() - before) * 1000 / count
  const { user, system } = process.cpuUsage(cpuBefore)
  return { wallMicros, cpuMicros: (user + system) / count }
}

async function pairs (stock: pg.Pool, tuned: pg.Pool, work: Work, count: number, statements: number): Promise<Pair[]> {
  for (let warm = 0; warm < 4; warm++) for (const pool of [stock, tuned]) await slice(pool, work, statements)
  const measured: Pair[] = []
  for (let pair = 0; pair < count; pair++) {
    // Who goes first changes, so that neither always meets what the other left behind.
    if (pair % 2 === 0) {
      const first = await slice(stock, work, statements)
      measured.push({ stock: first, tuned: await slice(tuned, work, statements) })
    } else {
      const first = await slice(tuned, work, statements)
      measured.push({ stock: await slice(stock, work, statements), tuned: first })
    }
  }
  return measured
}

process.once('message', async ({ connectionString, pairs: count, statements, failures }: PoolTask) => {
  const stock = new pg.Pool({ connectionString, max: 5 })
  stock.on('error', () => {})
  const optimizer = new DatabaseConnectionOptimizer({ connectionString, environment: {}, size: 5, overflow: 0 })
  const { pool: tuned } = optimizer
  const part: PoolPart = {
    query: await pairs(stock, tuned, query, count, statements),
    checkout: await pairs(stock, tuned, checkout, count, statements),
    failing: await pairs(stock, tuned, fail, Math.ceil(count / 4), failures)
  }
  await optimizer.close()
  await stock.end()
  process.send!(part, () => { process.disconnect() })
})
