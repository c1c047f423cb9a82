import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { setTimeout as pause } from 'node:timers/promises'
import type { EndpointFault } from '@orientor/clerk-simulator'
import { createIdentity, sessionHub } from '@orientor/session-contract'
import { testDatabase, until } from '@orientor/test-kit'
import Fastify from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import { migrate, smartSync } from '../src/index.js'

const issuer = 'https://clerk.example.com'
const secretKey = 'sk_live_0000000000000000000000000000'
const faultMs = Number(process.env['ORIENTOR_PROVIDER_FAULT_MS'] ?? 6000)
const loginsPerSecond = 25
/** The longest that a login of a user who has a row may take, in milliseconds. */
const maxLoginMs = 100
let unhandled = 0
process.on('unhandledRejection', () => { unhandled++ })

const faults: Readonly<Record<string, EndpointFault>> = {
  '429 with Retry-After': { kind: 'status', status: 429, retryAfterSeconds: 1 },
  '429 without Retry-After': { kind: 'status', status: 429 },
  500: { kind: 'status', status: 500 },
  '502 as HTML': { kind: 'html' },
  'no answer': { kind: 'hang' },
  'an answer without end': { kind: 'trickle' },
  'an answer after 3 s': { kind: 'slow', delayMs: 3000 },
  garbage: { kind: 'garbage' },
  'a connection that is cut': { kind: 'reset' },
  'an answer of 20 MB': { kind: 'huge', bytes: 20_000_000 }
}

for (const [name, fault] of Object.entries(faults)) {
  t.test(`while the provider's API gives ${name}, users who have a row log in as usual`, { timeout: 120_000 }, t => survive(t, name, fault))
}

async function survive (t: Test, name: string, fault: EndpointFault): Promise<void> {
  const { url } = await testDatabase(t)
  const pool = new pg.Pool({ connectionString: url, max: 10 })
  pool.on('error', () => {})
  t.teardown(async () => { await pool.end() })
  const { apiUrl, control, calls } = await startSimulator(t)
  const count = Math.ceil(faultMs / 1000 * loginsPerSecond)
  const subjects = Array.from({ length: count }, (_, n) => `user_${n}`)
  const later = 'user_later'
  for (const id of [...subjects, later]) await control('POST', 'users', { id, firstName: 'Ada' })
  await migrate({ pool })
  await pool.query(`INSERT INTO users (issuer, clerk_user_id, first_name, clerk_updated_at, last_clerk_sync)
    SELECT $1, unnest($2::text[]), 'As stored', now() - interval '1 day', now() - interval '1 day'`, [issuer, [...subjects, later]])
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  sessionHub(app).fill('identify', 'gateway', request => {
    // The token says that the user changed a moment ago, so that every login asks the provider.
    return createIdentity({ issuer, subject: String(request.headers['x-user']), claims: { updated_at: Date.now() } })
  })
  await app.register(smartSync, { pool, clerk: { secretKey, apiUrl, issuer } })
  app.get('/me', { config: { session: { required: true } } }, async request => request.sessionUser)
  await app.ready()
  await app.inject({ url: '/me', headers: { 'x-user': 'user_none' } })

  const before = await calls()
  await control('PUT', 'faults/users', fault)
  const startedMs = performance.now()
  const logins = await Promise.all(subjects.map(async (subject, n) => {
    await pause(n * 1000 / loginsPerSecond)
    const sentMs = performance.now()
    const { statusCode } = await app.inject({ url: '/me', headers: { 'x-user': subject } })
    return { statusCode, tookMs: performance.now() - sentMs }
  }))
  const lastedSeconds = (performance.now() - startedMs) / 1000
  const asked = await calls() - before
  await control('DELETE', 'faults/users')
  await until('the provider is asked again when it is back', async () => {
    const { body } = await app.inject({ url: '/me', headers: { 'x-user': later } })
    return JSON.parse(body).firstName === 'Ada'
  }, 15_000)

  const failed = logins.filter(login => login.statusCode !== 200).length
  const took = logins.map(({ tookMs }) => tookMs).toSorted((a, b) => a - b)
  const [p50Ms, longestMs] = [took[Math.floor(took.length / 2)]!, took.at(-1)!]
  t.comment(JSON.stringify({
    injected: `${name} for ${lastedSeconds.toFixed(1)} s, under ${loginsPerSecond} logins a second, each of another user who is due`,
    seen: `${logins.length} logins, ${asked} calls of the API`,
    reached: `${failed} failed; p50 ${p50Ms.toFixed(1)} ms, longest ${longestMs.toFixed(1)} ms; ${(asked / lastedSeconds).toFixed(2)} calls a second`
  }))
  t.equal(failed, 0, 'no login failed')
  t.ok(longestMs <= maxLoginMs, `none took longer than ${maxLoginMs} ms`)
  t.ok(asked > 0, 'the provider was asked')
  if (name.startsWith('429')) t.ok(asked <= Math.ceil(lastedSeconds) + 1, 'at most one call a second while it answers 429')
  t.equal(unhandled, 0)
}

interface ApartSimulator {
  readonly apiUrl: string
  /** Asks a route below `/control`. */
  control (method: string, path: string, body?: object): Promise<unknown>
  /** The calls of the users API since the start. */
  calls (): Promise<number>
}

/** A simulator in a process of its own: what it does with its time is not the app's. */
async function startSimulator (t: Test): Promise<ApartSimulator> {
  const main = fileURLToPath(new URL('./main.js', import.meta.resolve('@orientor/clerk-simulator')))
  const env = { PATH: process.env['PATH'], PORT: '0', ISSUER: issuer, CLERK_SECRET_KEY: secretKey }
  const child = spawn(process.execPath, [main], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(async () => {
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await ended
  })
  const [told] = await once(child.stdout, 'data') as [Buffer]
  const apiUrl = /http:\S+(?=;)/.exec(told.toString())![0]
  const control = async (method: string, path: string, body?: object): Promise<unknown> => {
    const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
    const response = await fetch(`${apiUrl}/control/${path}`, { method, ...sent })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
    return text === '' ? null : JSON.parse(text)
  }
  return {
    apiUrl,
    control,
    calls: async () => (await control('GET', 'request-counts') as Readonly<Record<string, number>>)['GET /v1/users'] ?? 0
  }
}
