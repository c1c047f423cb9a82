import { cpus } from 'node:os'
import pg from 'pg'
import { startPostgres } from '@orientor/test-kit'
import { DatabaseConnectionOptimizer } from '@orientor/pool-tuning/core'

const rounds = 15
const checkouts = 3000
const failures = 60

const server = await startPostgres()
const connectionString = server.url()
const stock = new pg.Pool({ connectionString, max: 5 })
stock.on('error', () => {})
const tuned = new DatabaseConnectionOptimizer({ connectionString, environment: {}, size: 5, overflow: 0 })
await stock.query('CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)')

interface Queryable { query (text: string): Promise<unknown> }
async function loop (pool: Queryable, text: string, count: number): Promise<number> {
  const before = performance.now()
  for (let index = 0; index < count; index++) await pool.query(text).catch(() => {})
  return (performance.now() - before) * 1000 / count
}
const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!

async function compare (text: string, count: number): Promise<{ stockMicros: number, tunedMicros: number }> {
  const stockMicros: number[] = []
  const tunedMicros: number[] = []
  await loop(stock, text, count)
  await loop(tuned.pool, text, count)
  for (let round = 0; round < rounds; round++) {
    const order = [async () => { stockMicros.push(await loop(stock, text, count)) }, async () => { tunedMicros.push(await loop(tuned.pool, text, count)) }]
    for (const run of round % 2 === 0 ? order : order.reverse()) await run()
  }
  return { stockMicros: median(stockMicros), tunedMicros: median(tunedMicros) }
}

const checkout = await compare('SELECT 1', checkouts)
const failing = await compare('INSERT INTO a VALUES (1)', failures)
const result = {
  checkoutOverhead: checkout.tunedMicros / checkout.stockMicros - 1,
  failingQueryGain: failing.stockMicros / failing.tunedMicros,
  checkout,
  failing
}
console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, Node ${process.version}, medians of ${rounds} interleaved rounds`)
console.table({
  'SELECT 1 (µs)': { stock: checkout.stockMicros.toFixed(1), tuned: checkout.tunedMicros.toFixed(1), result: `${(result.checkoutOverhead * 100).toFixed(1)} % over stock` },
  'failing INSERT (µs)': { stock: failing.stockMicros.toFixed(1), tuned: failing.tunedMicros.toFixed(1), result: `${result.failingQueryGain.toFixed(1)} times cheaper` }
})
await tuned.close()
await stock.end()
await server.stop()
if (process.argv.includes('--json')) console.log(JSON.stringify(result))
