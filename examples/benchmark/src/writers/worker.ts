import pg from 'pg'
import { updateSql, type Updates } from './updates.js'

// The writers where there is no pgbench. Whom they write to, and how, is in the environment.
const { updates, writers } = JSON.parse(process.argv[2]!) as { readonly updates: Updates, readonly writers: number }
const text = updateSql(updates, '$1')

await Promise.all(Array.from({ length: writers }, async () => {
  const client = new pg.Client()
  await client.connect()
  for (;;) await client.query({ name: 'update', text, values: [String(1 + Math.floor(Math.random() * updates.rows))] })
}))
