import { readdirSync, readFileSync } from 'node:fs'
import { clerkSimulator } from '@orientor/clerk-simulator'
import { testDatabase } from '@orientor/test-kit'
import pg from 'pg'
import t from 'tap'
import { build as identity } from '../src/session-identity.js'
import { build as contract } from '../src/session-contract.js'
import { build as sync } from '../src/smart-sync.js'

const root = new URL('../../../', import.meta.url)
const bearer = (token: string): { readonly headers: { readonly authorization: string } } => ({ headers: { authorization: `Bearer ${token}` } })

async function provider (t: { teardown (callback: () => unknown): void }) {
  const clerk = await clerkSimulator()
  await clerk.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => clerk.close())
  return clerk.simulator
}

for (const file of readdirSync(new URL('examples/alone/src/', root))) {
  const name = file.replace(/\.ts$/, '')
  t.test(`the README of ${name} shows its example as it is`, async t => {
    const readme = readFileSync(new URL(`packages/${name}/README.md`, root), 'utf8')
    const shown = /```ts\n([\s\S]*?)```/.exec(readme)?.[1]
    t.equal(shown, readFileSync(new URL(`examples/alone/src/${file}`, root), 'utf8'))
  })
}

t.test('session-contract alone joins the app\'s own authentication with its own users', async t => {
  const app = await contract()
  t.teardown(() => app.close())
  t.match((await app.inject({ url: '/me', headers: { 'x-user': 'ada' } })).json(), { userId: '1', firstName: 'Ada' })
  t.equal((await app.inject({ url: '/me', headers: { 'x-user': 'eve' } })).statusCode, 401)
  t.equal((await app.inject('/me')).statusCode, 401)
})

t.test('session-identity alone verifies tokens and has no users', async t => {
  const simulator = await provider(t)
  const app = await identity(simulator.issuer)
  t.teardown(() => app.close())
  const user = await simulator.createUser({ firstName: 'Ada' })
  const token = await simulator.mintToken({ userId: user.id })
  const known = { ...bearer(token), url: '/whoami' }
  t.match((await app.inject(known)).json(), { subject: user.id, sessionId: /^sess_/ })
  t.equal((await app.inject({ ...bearer(`${token}x`), url: '/whoami' })).statusCode, 401)
  t.equal((await app.inject('/whoami')).statusCode, 401)
  t.strictSame((await app.inject('/greeting')).json(), { greeting: 'Hello' })
})

t.test('smart-sync alone makes the table at the start, and a row at the first request', async t => {
  const { url } = await testDatabase(t)
  const pool = new pg.Pool({ connectionString: url })
  const app = await sync(pool)
  t.teardown(async () => {
    await app.close()
    await pool.end()
  })
  const first = { url: '/me', headers: { 'x-user': 'ada', 'x-email': 'ada@example.com' } }
  t.match((await app.inject(first)).json(), { userId: '1', subject: 'ada', email: 'ada@example.com' })
  t.equal((await app.inject(first)).json().userId, '1')
  t.equal((await pool.query('SELECT count(*)::int AS rows FROM users')).rows[0].rows, 1)
  t.equal((await app.inject('/me')).statusCode, 401)
})
