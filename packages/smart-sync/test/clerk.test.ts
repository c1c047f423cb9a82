import { inspect } from 'node:util'
import { startDeadline, systemClock, type Clock, type Deadline } from '@orientor/session-contract/core'
import { clerkSimulator, type ClerkSimulatorApp, type SimulatorOptions } from '@orientor/clerk-simulator'
import { ManualClock, until } from '@orientor/test-kit'
import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { ClerkProvider, type ClerkProviderOptions } from '../src/clerk/clerk-provider.js'
import { readClerkUser } from '../src/clerk/clerk-user.js'
import { retryAfterMsOf } from '../src/clerk/retry-after.js'
import { withoutSecret } from '../src/clerk/without-secret.js'
import type { LookUpPriority, ProviderAnswer } from '../src/identity-provider.js'
import { observe } from '../src/observation.js'
import { resolveOptions } from '../src/options.js'

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
  const app = Fastify({ forceCloseConnections: true })
  app.get('/v1/users', async (request, reply) => {
    asked.push(request)
    return await answer(request, reply)
  })
  t.teardown(async () => { await app.close() })
  return { url: await app.listen({ port: 0, host: '127.0.0.1' }), asked }
}

function deadlineIn (t: Test, ms: number, clock: Clock = systemClock): Deadline {
  const deadline = startDeadline(clock, ms)
  t.teardown(() => { deadline.release() })
  return deadline
}

async function askOne (
  provider: ClerkProvider, t: Test, ms = 5000, clock: Clock = systemClock
): Promise<ProviderAnswer> {
  return (await provider.lookUp(issuer, ['user_a'], deadlineIn(t, ms, clock))).get('user_a')!
}

/** All that a log could show of an answer: what can be enumerated, and messages and stacks down the causes. */
function written (answer: ProviderAnswer): string {
  return inspect(answer, { depth: 20, showHidden: true })
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
  t.test('keeps metadata of any depth from breaking what reads them', async t => {
    const nested = (depth: number): unknown => JSON.parse(`${'['.repeat(depth)}1${']'.repeat(depth)}`)
    for (const depth of [10, 4000, 200_000]) {
      const { profile, version } = readClerkUser({ ...user, public_metadata: { deep: nested(depth), plan: 'pro' } })!
      t.match(profile.data, { publicMetadata: { plan: 'pro' } })
      t.ok(observe(issuer, 'user_a', profile, version, true).fingerprint)
      if (depth === 10) t.same(profile.data!['publicMetadata'], { deep: nested(10), plan: 'pro' })
    }
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
    const hostile = [
      '-user_a', '+user_a', 'mch_a', 'user_', 'user_a&limit=500', 'user_ä', '', 'user_a\n',
      `user_${'a'.repeat(65)}`, `user_${'a'.repeat(5000)}`
    ]
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

  t.test('keeps quiet for as long as a 429 says, and asks a second later at the earliest while it goes on', async t => {
    const { url, asked } = await answering(t, async (_request, reply) => {
      return await reply.code(429).header('retry-after', '7').send({ errors: [] })
    })
    const clock = new ManualClock()
    const provider = providerAt(url, { clock })
    const ask = async (): Promise<ProviderAnswer> => await askOne(provider, t, 400, clock)
    t.match(await ask(), { kind: 'failed', error: { code: 'ORI_SYNC_PROVIDER_UNAVAILABLE' }, retryAfterMs: 7000 })
    clock.advance(6500)
    t.match(await ask(), { kind: 'failed', error: { message: /asked for a pause/ }, retryAfterMs: 500 })
    t.equal(asked.length, 1)
    clock.advance(500)
    await ask()
    t.equal(asked.length, 2)
  })

  t.test('sends one request a second after a 429, and all again once one was taken', async t => {
    let status = 429
    const { url, asked } = await answering(t, async (_request, reply) => await reply.code(status).send([]))
    const clock = new ManualClock()
    const provider = providerAt(url, { clock })
    const sentIn = async (seconds: number): Promise<number> => {
      const before = asked.length
      for (let tenth = 0; tenth < seconds * 10; tenth++) {
        await askOne(provider, t, 50, clock)
        clock.advance(100)
      }
      return asked.length - before
    }
    t.equal(await sentIn(5), 5)
    status = 502
    t.equal(await sentIn(5), 5, 'a broken gateway tells nothing of the limit')
    status = 200
    t.equal(await sentIn(2), 20)
  })

  t.test('is refused once per window where others use up what Clerk takes, and never within a quota below it', async t => {
    for (const [quota, refusedPerWindow] of [[{ maxRequests: 1000 }, 1], [{ maxRequests: 5 }, 0]] as const) {
      const clock = new ManualClock()
      const { clerk } = await simulated(t, { clock, rateLimit: { maxRequests: 5, windowMs: 10_000 } })
      const statuses: number[] = []
      const counting: typeof fetch = async (...request) => {
        const response = await fetch(...request)
        statuses.push(response.status)
        return response
      }
      const { apiUrl, secretKey } = clerk.simulator
      const provider = providerAt(apiUrl, { secretKey, clock, quota, fetch: counting })
      let answered = 0
      for (let tenth = 0; tenth < 300; tenth++) {
        if ((await askOne(provider, t, 50, clock)).kind === 'unknown') answered++
        clock.advance(100)
      }
      t.equal(statuses.filter(status => status === 429).length, 3 * refusedPerWindow)
      t.equal(answered, 15, 'all that Clerk takes is used')
      t.equal(statuses.length, answered + 3 * refusedPerWindow)
    }
  })

  t.test('keeps quiet as well when a 503 names the time, and not when it names none', async t => {
    for (const [header, requests] of [['3', 1], [undefined, 2]] as const) {
      const { url, asked } = await answering(t, async (_request, reply) => {
        return await (header === undefined ? reply : reply.header('retry-after', header)).code(503).send('<html>')
      })
      const clock = new ManualClock()
      const provider = providerAt(url, { clock })
      for (let n = 0; n < 2; n++) t.match(await askOne(provider, t, 500, clock), { kind: 'failed' })
      t.equal(asked.length, requests)
    }
  })

  t.test('knows the pause of a 429 whose body never ends or breaks off', async t => {
    const breakOff = (reply: FastifyReply): void => { setImmediate(() => reply.raw.destroy()) }
    const endings = [() => {}, breakOff]
    for (const end of endings) {
      const { url, asked } = await answering(t, (_request, reply) => {
        reply.hijack()
        reply.raw.writeHead(429, { 'retry-after': '7', 'content-length': '1000' }).write('<html>')
        t.teardown(() => { reply.raw.destroy() })
        end(reply)
      })
      const clock = new ManualClock()
      const provider = providerAt(url, { clock })
      t.match(await askOne(provider, t, 500, clock), { kind: 'failed', retryAfterMs: 7000 })
      t.match(await askOne(provider, t, 500, clock), { kind: 'failed', retryAfterMs: 7000 })
      t.equal(asked.length, 1)
    }
  })

  t.test('takes Retry-After in seconds or as a date, by the clock of its sender, for a second to an hour', async t => {
    const nowMs = Date.UTC(2026, 0, 1, 12)
    const of = (headers: Record<string, string>): number | null => retryAfterMsOf(new Headers(headers), nowMs)
    const at = (hour: number, second: number): string => new Date(Date.UTC(2026, 0, 1, hour, 0, second)).toUTCString()
    for (const [text, ms] of [['7', 7000], ['0', 1000], ['86400', 3_600_000], ['9'.repeat(400), 3_600_000]] as const) {
      t.equal(of({ 'retry-after': text }), ms, text.slice(0, 20))
    }
    t.equal(of({ 'retry-after': at(12, 30) }), 30_000)
    t.equal(of({ 'retry-after': at(11, 0) }), 1000, 'a date that has passed')
    t.equal(of({ 'retry-after': at(15, 30), date: at(15, 10) }), 20_000, 'our clock is three hours behind')
    t.equal(of({ 'retry-after': at(12, 30), date: 'today' }), 30_000)
    for (const text of ['', 'soon', '-1', '1e3', '2026-01-01T12:00:30Z', 'Thu, 01 Jan 2026 12:00:30 +0100', '7, 7']) {
      t.equal(of({ 'retry-after': text }), null, text)
    }
    t.equal(of({}), null)
  })

  t.test('takes a 429 without a readable Retry-After for a second', async t => {
    for (const header of ['soon', undefined]) {
      const { url } = await answering(t, async (_request, reply) => {
        return await (header === undefined ? reply : reply.header('retry-after', header)).code(429).send({})
      })
      t.match(await askOne(providerAt(url), t), { kind: 'failed', retryAfterMs: 1000 })
    }
  })

  t.test('keeps to its quota, and serves an interactive look-up before a backfill that has waited longer', async t => {
    const { url, asked } = await answering(t, () => [])
    const clock = new ManualClock()
    const provider = providerAt(url, { clock, quota: { maxRequests: 2, windowMs: 1000 } })
    const order: string[] = []
    const ask = async (id: string, priority: LookUpPriority): Promise<void> => {
      const answers = await provider.lookUp(issuer, [id], deadlineIn(t, 5000, clock), priority)
      order.push(`${id} ${answers.get(id)!.kind}`)
    }
    await ask('user_1', 'interactive')
    await ask('user_2', 'interactive')
    const refused = await provider.lookUp(issuer, ['user_0'], deadlineIn(t, 500, clock))
    const usedUp = { message: /quota of requests is used up/ }
    t.match(refused.get('user_0'), { kind: 'failed', error: usedUp, retryAfterMs: 1000 })
    const waiting = [ask('user_5', 'backfill'), ask('user_4', 'webhook'), ask('user_3', 'interactive')]
    t.equal(asked.length, 2)
    for (let n = 0; n < 2; n++) {
      clock.advance(1000)
      await until('two more are answered', () => order.length === Math.min(5, 4 + 2 * n))
    }
    await Promise.all(waiting)
    t.equal(asked.length, 5)
    t.same(order.slice(0, 2), ['user_1 unknown', 'user_2 unknown'])
    t.same(order.slice(2, 4).sort(), ['user_3 unknown', 'user_4 unknown'])
    t.equal(order[4], 'user_5 unknown')
  })

  t.test('has a quota as the options say, or by the kind of its key', async t => {
    for (const [secretKey, quota, taken] of [
      ['sk_live_a', undefined, 800], ['sk_test_a', undefined, 80], ['sk_test_a', { maxRequests: 3 }, 3]
    ] as const) {
      let requests = 0
      const clock = new ManualClock()
      const answer = async (): Promise<Response> => {
        requests++
        return Response.json([])
      }
      const { clerk } = resolveOptions({ clerk: { secretKey, quota, fetch: answer } })
      const provider = new ClerkProvider({ ...clerk!, clock })
      const deadline = startDeadline(clock, 9999)
      await Promise.all(Array.from({ length: 900 }, async (_, n) => {
        const answers = await provider.lookUp(issuer, [`user_${n}`], deadline)
        if (answers.get(`user_${n}`)?.kind !== (n < taken ? 'unknown' : 'failed')) t.fail(`${n} of ${taken}`)
      }))
      t.equal(requests, taken)
    }
    for (const [quota, message] of [
      [{ maxRequests: 0 }, /quota: option "maxRequests" must be an integer from 1 to 100000; received 0/],
      [{ windowMs: Infinity }, /quota: option "windowMs" must be a whole number of milliseconds/],
      [{ max: 1 }, /quota: option "max" is not known/],
      [7, /quota: the options must be an object/]
    ] as const) {
      const clerk = { secretKey: 'sk_a', quota }
      t.throws(() => resolveOptions({ clerk }), { code: 'ORI_CONTRACT_INVALID_OPTION', message })
    }
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

  t.test('takes none of what it cannot have asked for', async t => {
    const [a, b] = [{ id: 'user_a', updated_at: 1_767_225_600_123 }, { id: 'user_b', updated_at: 1_767_225_600_123 }]
    for (const [body, kind] of [[[a, b], 'failed'], [[b], 'failed'], [[a, a], 'found'], [[], 'unknown']] as const) {
      const { url } = await answering(t, () => body)
      t.equal((await askOne(providerAt(url), t)).kind, kind, JSON.stringify(body))
    }
  })

  t.test('is unavailable when its answer is packed and far too long, or never ends', async t => {
    const { clerk, provider } = await simulated(t)
    clerk.simulator.faults.users.set({ kind: 'huge', bytes: 50 * 1024 * 1024, gzip: true })
    t.match(await askOne(provider, t), { kind: 'failed', error: { message: /longer than 8388608 bytes/ } })
    clerk.simulator.faults.users.set({ kind: 'trickle' })
    t.match(await askOne(provider, t, 300), { kind: 'failed', error: { message: /broke off/ } })
  })

  t.test('never shows its key: not to where it is led, not in an error, whichever client made it', async t => {
    const secretKey = 'sk_live_canary'
    const elsewhere = await answering(t, () => [])
    for (const status of [301, 302, 303, 307, 308]) {
      const { url } = await answering(t, async (_request, reply) => {
        return await reply.code(status).header('location', `${elsewhere.url}/v1/users`).send()
      })
      const answer = await askOne(providerAt(url, { secretKey }), t)
      t.match(answer, { kind: 'failed', error: { code: 'ORI_SYNC_PROVIDER_UNAVAILABLE' } })
      t.notMatch(written(answer), /canary/)
    }
    t.equal(elsewhere.asked.length, 0)
    const chatty: typeof fetch = async (_url, init) => {
      const cause = Object.assign(new Error('of the client'), { code: 'ECONNRESET', request: init })
      throw Object.assign(new TypeError(`failed with ${JSON.stringify(init?.headers)}`, { cause }), { config: init })
    }
    const broken = `${secretKey}\nx`
    for (const more of [{ secretKey, fetch: chatty }, { secretKey: broken }]) {
      const answer = await askOne(providerAt('http://127.0.0.1:1', more), t)
      t.match(answer, { kind: 'failed', error: { code: 'ORI_SYNC_PROVIDER_UNAVAILABLE', cause: Error } })
      t.notMatch(written(answer), /canary/)
    }
    const cause = Object.assign(new Error('b k'), { code: 'E' })
    t.match(withoutSecret(new TypeError('a', { cause }), 'k'), { message: 'a: b [secret key]', code: 'E' })
    t.equal(withoutSecret('text with k', 'k').message, '')
    const loop = new Error('k')
    loop.cause = loop
    t.equal(withoutSecret(loop, 'k').message.split(': ').length, 5)
  })

  t.test('gives nothing of the private or unsafe metadata, and no address but the primary one', async t => {
    const { clerk, provider } = await simulated(t)
    const canary = 'canary-0815'
    const user = await clerk.simulator.createUser({
      firstName: 'Ada',
      email: 'ada@example.com',
      otherEmails: [`${canary}@example.com`],
      publicMetadata: { plan: 'pro' },
      privateMetadata: { key: canary, [canary]: [{ deep: canary }] },
      unsafeMetadata: { role: canary, [canary]: true }
    })
    const answers = await provider.lookUp(issuer, [user.id, 'user_nobody'], deadlineIn(t, 5000))
    const profile = { email: 'ada@example.com', data: { publicMetadata: { plan: 'pro' } } }
    t.match(answers.get(user.id), { kind: 'found', profile })
    t.notMatch(inspect(answers, { depth: 20, showHidden: true }), /canary/)
    await clerk.simulator.updateUser(user.id, { email: null })
    const later = await provider.lookUp(issuer, [user.id], deadlineIn(t, 5000))
    t.match(later.get(user.id), { kind: 'found', profile: { email: null } })
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
