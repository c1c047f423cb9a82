import { startDeadline, systemClock, type Deadline } from '@orientor/session-contract/core'
import { clerkSimulator, type ClerkSimulatorApp, type SimulatorOptions } from '@orientor/clerk-simulator'
import { ManualClock } from '@orientor/test-kit'
import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { ClerkProvider, type ClerkProviderOptions } from '../src/clerk/clerk-provider.js'
import { readClerkUser } from '../src/clerk/clerk-user.js'
import type { ProviderAnswer } from '../src/identity-provider.js'

const issuer = 'https://clerk.example'

async function simulated (t: Test, options: SimulatorOptions = {}): Promise<{ clerk: ClerkSimulatorApp, provider: ClerkProvider, requests: () => number }> {
  const clerk = await clerkSimulator(options)
  await clerk.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => { await clerk.close() })
  const { apiUrl, secretKey } = clerk.simulator
  return { clerk, provider: providerAt(apiUrl, { secretKey }), requests: () => clerk.simulator.requestCounts['GET /v1/users'] ?? 0 }
}

function providerAt (apiUrl: string, more: Partial<ClerkProviderOptions> = {}): ClerkProvider {
  return new ClerkProvider({ secretKey: 'sk_test', apiUrl, issuer: null, fetch, clock: systemClock, ...more })
}

/** A server that answers every list with whatever the test says, and remembers what it was asked. */
async function answering (t: Test, answer: (request: FastifyRequest, reply: FastifyReply) => unknown): Promise<{ url: string, asked: FastifyRequest[] }> {
  const asked: FastifyRequest[] = []
  const app = Fastify()
  app.get('/v1/users', async (request, reply) => {
    asked.push(request)
    return await answer(request, reply)
  })
  t.teardown(async () => { await app.close() })
  return { url: await app.listen({ port: 0, host: '127.0.0.1' }), asked }
}

function deadlineIn (t: Test, ms: number): Deadline {
  const deadline = startDeadline(systemClock, ms)
  t.teardown(() => { deadline.release() })
  return deadline
}

async function askOne (provider: ClerkProvider, t: Test, ms = 5000): Promise<ProviderAnswer> {
  return (await provider.lookUp(issuer, ['user_a'], deadlineIn(t, ms))).get('user_a')!
}

t.test('a Clerk user', t => {
  const user = {
    id: 'user_a',
    first_name: 'Ada',
    last_name: null,
    username: 'ada',
    image_url: 'https://img.example/a',
    primary_email_address_id: 'idn_2',
    email_addresses: [{ id: 'idn_1', email_address: 'old@example.com' }, null, { id: 'idn_2', email_address: 'ada@example.com', verification: null }],
    public_metadata: { plan: 'pro\0' },
    private_metadata: { internal: 1 },
    unsafe_metadata: { role: 'admin' },
    banned: false,
    locked: false,
    updated_at: 1_767_225_600_123
  }

  t.test('gives profile and version, its primary e-mail address, and no metadata but the public', async t => {
    t.same(readClerkUser(user), {
      subject: 'user_a',
      profile: { email: 'ada@example.com', firstName: 'Ada', lastName: null, blocked: false, data: { username: 'ada', imageUrl: 'https://img.example/a', publicMetadata: { plan: 'pro' } } },
      version: 1_767_225_600_123
    })
  })
  t.test('is blocked when banned, or locked until somebody unlocks it', async t => {
    const blocked = (more: object): boolean | undefined => readClerkUser({ ...user, ...more })?.profile.blocked
    t.equal(blocked({ banned: true }), true)
    t.equal(blocked({ locked: true }), true)
    t.equal(blocked({ locked: true, lockout_expires_in_seconds: null }), true)
    t.equal(blocked({ locked: true, lockout_expires_in_seconds: 60 }), false)
  })
  t.test('has no version when updated_at is 0 or missing, and seconds are read as such', async t => {
    t.equal(readClerkUser({ ...user, updated_at: 0 })?.version, null)
    t.equal(readClerkUser({ id: 'user_a' })?.version, null)
    t.equal(readClerkUser({ ...user, updated_at: 1_611_948_436 })?.version, 1_611_948_436_000)
  })
  t.test('survives whatever is missing or of another type', async t => {
    t.same(readClerkUser({ id: 'user_a', email_addresses: {}, public_metadata: [] })?.profile, {
      email: null, firstName: null, lastName: null, blocked: false, data: { username: null, imageUrl: null, publicMetadata: {} }
    })
    t.equal(readClerkUser({ ...user, primary_email_address_id: 'idn_9' })?.profile.email, null)
    for (const nothing of [null, [], 'user_a', {}, { id: 7 }]) t.equal(readClerkUser(nothing), null)
  })
  t.end()
})

t.test('the Clerk provider', t => {
  t.test('finds 250 users in three requests, and knows who is missing', async t => {
    const { clerk, provider, requests } = await simulated(t)
    const ids: string[] = []
    for (let n = 0; n < 250; n++) ids.push((await clerk.simulator.createUser({ firstName: `n${n}`, email: `u${n}@example.com`, otherEmails: [`other${n}@example.com`] })).id)
    const answers = await provider.lookUp(issuer, [...ids, 'user_nobody'], deadlineIn(t, 5000))
    t.equal(requests(), 3)
    t.match(answers.get(ids[249]!), { kind: 'found', profile: { firstName: 'n249', email: 'u249@example.com', blocked: false }, version: Number })
    t.ok(ids.every(id => answers.get(id)?.kind === 'found'))
    t.same(answers.get('user_nobody'), { kind: 'unknown' })
  })

  t.test('sees bans and their end, with a version that grows', async t => {
    const { clerk, provider } = await simulated(t)
    const { id } = await clerk.simulator.createUser({})
    const seen = async (): Promise<ProviderAnswer & { kind: 'found' }> => (await provider.lookUp(issuer, [id], deadlineIn(t, 5000))).get(id) as ProviderAnswer & { kind: 'found' }
    const [before, banned, freed] = [await seen(), (await clerk.simulator.banUser(id), await seen()), (await clerk.simulator.unbanUser(id), await seen())]
    t.same([before, banned, freed].map(({ profile }) => profile.blocked), [false, true, false])
    t.ok(before.version! < banned.version! && banned.version! < freed.version!)
  })

  t.test('never sends a subject that is no user id: it would mean everybody else', async t => {
    const { provider, requests } = await simulated(t)
    const hostile = ['-user_a', '+user_a', 'mch_a', 'user_', 'user_a&limit=500', 'user_ä', '']
    const answers = await provider.lookUp(issuer, hostile, deadlineIn(t, 5000))
    t.ok(hostile.every(subject => answers.get(subject)?.kind === 'unknown'))
    t.equal(requests(), 0)
  })

  t.test('answers for its own issuer, or for all', async t => {
    t.equal(providerAt('http://127.0.0.1:1').serves(issuer), true)
    t.equal(providerAt('http://127.0.0.1:1', { issuer }).serves(issuer), true)
    t.equal(providerAt('http://127.0.0.1:1', { issuer }).serves('https://other.example'), false)
  })

  t.test('says what it asks for as the API wants it, whether the base ends with /v1 or not', async t => {
    const { url, asked } = await answering(t, () => [])
    for (const base of [url, `${url}/`, `${url}/v1`, `${url}/v1/`]) t.same(await askOne(providerAt(base), t), { kind: 'unknown' })
    t.equal(asked.length, 4)
    t.match(asked[0], { query: { limit: '100', user_id: 'user_a' }, headers: { authorization: 'Bearer sk_test', 'clerk-api-version': '2026-05-12', accept: 'application/json' } })
  })

  t.test('keeps quiet for as long as a 429 says', async t => {
    const { url, asked } = await answering(t, async (_request, reply) => await reply.code(429).header('retry-after', '7').send({ errors: [] }))
    const clock = new ManualClock()
    const provider = providerAt(url, { clock })
    t.match(await askOne(provider, t), { kind: 'failed', error: { code: 'ORI_SYNC_PROVIDER_UNAVAILABLE' }, retryAfterMs: 7000 })
    clock.advance(6500)
    t.match(await askOne(provider, t), { kind: 'failed', retryAfterMs: 500 })
    t.equal(asked.length, 1)
    clock.advance(500)
    await askOne(provider, t)
    t.equal(asked.length, 2)
  })

  t.test('takes a 429 without a readable Retry-After for a second, and a long one for a minute', async t => {
    const sent = ['soon', '0', '86400']
    const { url } = await answering(t, async (_request, reply) => await reply.code(429).header('retry-after', sent.shift()).send({}))
    const retries: Array<number | undefined> = []
    for (let n = 0; n < 3; n++) retries.push((await askOne(providerAt(url), t) as { retryAfterMs?: number }).retryAfterMs)
    t.same(retries, [1000, 1000, 60_000])
  })

  t.test('is unavailable behind a broken gateway, an answer that is not JSON, no list, too long, or cut off', async t => {
    const answers: Array<(reply: FastifyReply) => unknown> = [
      async reply => await reply.code(502).type('text/html').send('<html>Bad gateway</html>'),
      async reply => await reply.type('text/html').send('<html>Sign in</html>'),
      () => ({ data: [] }),
      () => [{ id: 'user_a' }, { object: 'surprise' }],
      async reply => await reply.type('application/json').send(`["${'x'.repeat(9 * 1024 * 1024)}"]`),
      reply => { reply.raw.writeHead(200, { 'content-length': '1000' }); reply.raw.write('[{'); setImmediate(() => reply.raw.destroy()); return reply.hijack() },
      async reply => await reply.code(302).header('location', 'http://127.0.0.1:1/').send()
    ]
    const { url } = await answering(t, async (_request, reply) => await answers.shift()!(reply))
    while (answers.length > 0) t.match(await askOne(providerAt(url), t), { kind: 'failed', error: { code: 'ORI_SYNC_PROVIDER_UNAVAILABLE' } })
    t.match(await askOne(providerAt('http://127.0.0.1:1'), t), { kind: 'failed', error: { code: 'ORI_SYNC_PROVIDER_UNAVAILABLE', cause: Error } })
  })

  t.test('says so when its key is wrong, without showing it', async t => {
    const { clerk } = await simulated(t)
    const answer = await askOne(providerAt(clerk.simulator.apiUrl, { secretKey: 'sk_wrong' }), t)
    t.match(answer, { kind: 'failed', error: { code: 'ORI_SYNC_PROVIDER_REFUSED', message: /status 401/ } })
    t.notMatch(JSON.stringify(answer), /sk_wrong/)
  })

  t.test('gives up at the deadline', async t => {
    const { url } = await answering(t, async () => await new Promise(resolve => { setTimeout(resolve, 400, []).unref() }))
    t.match(await askOne(providerAt(url), t, 50), { kind: 'failed', error: { code: 'ORI_SYNC_PROVIDER_UNAVAILABLE' } })
  })

  t.test('one group that fails does not fail the others', async t => {
    const { url } = await answering(t, (request, reply) => {
      const ids = (request.query as { user_id: string[] }).user_id
      return ids.includes('user_0') ? reply.code(500).send({}) : ids.map(id => ({ id, updated_at: 1_767_225_600_123 }))
    })
    const ids = Array.from({ length: 200 }, (_, n) => `user_${n}`)
    const answers = await providerAt(url).lookUp(issuer, ids, deadlineIn(t, 5000))
    t.equal(answers.get('user_99')?.kind, 'failed')
    t.equal(answers.get('user_100')?.kind, 'found')
  })
  t.end()
})
