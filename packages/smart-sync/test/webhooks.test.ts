import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { sessionHub, sessionKey, SourceUnavailable, subjectFlaw, type Deadline } from '@orientor/session-contract'
import { ManualClock, until } from '@orientor/test-kit'
import { expectTypeOf } from 'expect-type'
import fc from 'fast-check'
import Fastify, { type FastifyInstance, type InjectOptions, type LightMyRequestResponse } from 'fastify'
import rawBody from 'fastify-raw-body'
import t, { type Test } from 'tap'
import { ClerkWebhook } from '../src/clerk/clerk-webhook.js'
import type { Observation } from '../src/observation.js'
import { resolveOptions, type SmartSyncOptions } from '../src/options.js'
import { WebhookReceiver, type WebhookReceiverOptions } from '../src/webhook-receiver.js'
import { webhookRoutes } from '../src/webhook-routes.js'
import { isWebhookSecret, WebhookSignature } from '../src/webhook-signature.js'
import { WebhookStats } from '../src/webhook-stats.js'
import { eventOf, otherSecret, secret, signedHeaders, userData, vector } from './fixtures/webhooks.js'

const issuer = 'https://clerk.example.com'
const path = '/webhooks/clerk'
const key = sessionKey(issuer, 'user_a')

type Sync = WebhookReceiverOptions['sync']
type Letter = Parameters<Sync['deadLetter']>[0]

/** A sync that keeps what it is given, and answers as it is told. */
function recorder (answer: Partial<Sync> = {}): Sync & { observations: Observation[], letters: Letter[] } {
  const observations: Observation[] = []
  const letters: Letter[] = []
  return {
    observations,
    letters,
    async apply (given, options) {
      observations.push(...given)
      return answer.apply === undefined ? given.map(() => ({ kind: 'tombstoned' })) : await answer.apply(given, options)
    },
    async deadLetter (letter, deadline) {
      letters.push(letter)
      await answer.deadLetter?.(letter, deadline)
    }
  }
}

interface Hooked {
  readonly app: FastifyInstance
  readonly sync: ReturnType<typeof recorder>
  readonly stats: WebhookStats
  readonly log: Array<Record<string, unknown>>
  readonly clock: ManualClock
  readonly send: (body: unknown, more?: InjectOptions) => Promise<LightMyRequestResponse>
}

/** An app with the route on a clock that stands still, and its log. */
function hooked (t: Test, options: {
  answer?: Partial<Sync>
  before?: (app: FastifyInstance) => void
  after?: (app: FastifyInstance) => void
  maxBodyBytes?: number
  instanceId?: string | null
} = {}): Hooked {
  const { answer = {}, before = () => {}, after = () => {}, maxBodyBytes = 262_144, instanceId = null } = options
  const clock = new ManualClock()
  const log: Array<Record<string, unknown>> = []
  const app = Fastify({ logger: { level: 'warn', stream: { write (line: string) { log.push(JSON.parse(line)) } } } })
  const sync = recorder(answer)
  const stats = new WebhookStats()
  const reader = new ClerkWebhook({ secrets: [secret, otherSecret], issuer, instanceId, revokedForMs: 60_000, clock })
  before(app)
  app.register(webhookRoutes, { path, maxBodyBytes, receiver: new WebhookReceiver({ reader, sync, stats, clock }) })
  after(app)
  t.teardown(async () => { await app.close() })
  const send = async (event: unknown, more: InjectOptions = {}): Promise<LightMyRequestResponse> => {
    const body = typeof event === 'string' || Buffer.isBuffer(event) ? event : JSON.stringify(event)
    const headers = { ...signedHeaders(body, { atMs: clock.now() }), ...more.headers }
    return await app.inject({ method: 'POST', url: path, body, ...more, headers })
  }
  return { app, sync, stats, log, clock, send }
}

function readerOf (options: Partial<ConstructorParameters<typeof ClerkWebhook>[0]> = {}): ClerkWebhook {
  const clock = new ManualClock()
  return new ClerkWebhook({ secrets: [secret], issuer, instanceId: null, revokedForMs: 60_000, clock, ...options })
}

/** What a reader makes of an event that is signed as it must be. */
function readingOf (event: unknown, reader: ClerkWebhook = readerOf()): ReturnType<ClerkWebhook['read']> {
  const body = Buffer.from(typeof event === 'string' ? event : JSON.stringify(event))
  return reader.read(signedHeaders(body, { atMs: new ManualClock().now() }), body)
}

t.test('the signature', t => {
  const clock = new ManualClock({ now: Number(vector.timestamp) * 1000 })
  const signature = new WebhookSignature([secret], clock)
  const official = {
    'webhook-id': vector.id, 'webhook-timestamp': vector.timestamp, 'webhook-signature': vector.signature
  }
  const svix = (headers: Record<string, string> = official): IncomingHttpHeaders => {
    return Object.fromEntries(Object.entries(headers).map(([name, value]) => {
      return [name.replace('webhook-', 'svix-'), value]
    }))
  }

  t.test('of the specification is good, under either name of the headers', async t => {
    t.equal(signature.flawOf(official, vector.body), null)
    t.equal(signature.flawOf(svix(), vector.body), null)
    t.equal(signature.flawOf({ ...svix(), 'webhook-id': 'another', 'webhook-signature': 'v1,x' }, vector.body), null)
    const mixed = { ...official, 'svix-id': vector.id }
    t.equal(signature.flawOf(mixed, vector.body), null, 'the set that is complete counts')
  })

  t.test('is one of a list, of one of several secrets', async t => {
    const list = `v1a,ed25519 v1,${'A'.repeat(43)}= ${vector.signature} v2,later`
    const listed = { ...official, 'webhook-signature': list }
    t.equal(signature.flawOf(listed, vector.body), null)
    const rotated = new WebhookSignature([otherSecret, secret], clock)
    t.equal(rotated.flawOf(official, vector.body), null)
    t.equal(rotated.flawOf(signedHeaders(vector.body, { by: otherSecret, atMs: clock.now() }), vector.body), null)
    t.match(new WebhookSignature([otherSecret], clock).flawOf(official, vector.body), /none of the secrets/)
  })

  t.test('is bound to the id, the timestamp and every byte of the body', async t => {
    for (const [headers, body] of [
      [{ ...official, 'webhook-id': 'msg_other' }, vector.body],
      [{ ...official, 'webhook-timestamp': '1614265331' }, vector.body],
      [official, Buffer.from('{"test": 2432232315}')],
      [official, Buffer.from('{"test":2432232314}')],
      [official, Buffer.concat([vector.body, Buffer.from('\n')])],
      [official, Buffer.alloc(0)],
      [{ ...official, 'webhook-signature': vector.signature.replace('v1,', 'v2,') }, vector.body],
      [{ ...official, 'webhook-signature': vector.signature.replace('v1,', '') }, vector.body],
      [{ ...official, 'webhook-signature': 'v1,' }, vector.body],
      [{ ...official, 'webhook-signature': `${vector.signature}A` }, vector.body]
    ] as const) t.match(signature.flawOf(headers, body), /none of the secrets/)
  })

  t.test('of bytes that are no text is not taken for that of the text that replaces them', async t => {
    const text = Buffer.from('{"name": "\ufffd"}')
    const headers = signedHeaders(text, { atMs: clock.now() })
    t.equal(signature.flawOf(headers, text), null)
    const bytes = Buffer.concat([text.subarray(0, 10), Buffer.from([0xff]), text.subarray(13)])
    t.equal(bytes.toString(), text.toString())
    t.match(signature.flawOf(headers, bytes), /not UTF-8/)
  })

  t.test('is good for five minutes either way, to the second', async t => {
    for (const seconds of [-301, -300, -299, 0, 299, 300, 301]) {
      const flaw = signature.flawOf(signedHeaders(vector.body, { atMs: clock.now() + seconds * 1000 }), vector.body)
      t.equal(flaw === null, Math.abs(seconds) <= 300, String(seconds))
    }
  })

  t.test('needs headers that are there once and well-formed, as strictly as they can be', async t => {
    const wrong: Array<[string, unknown]> = [
      ...['id', 'timestamp', 'signature'].flatMap(name => [
        [name, undefined], [name, ''], [name, ' '], [name, [vector.id, vector.id]]
      ] as Array<[string, unknown]>),
      // A signature by the library's own rules, which read the number that a text begins with.
      ...[
        'Nabc', 'N.5', 'N, N', '0N', '+N', ' N', '-N', '1.614265330e9', '0x60370d32', '१६१४२६५३३०', 'NaN',
        '9'.repeat(400)
      ].map(value => ['timestamp', value.replaceAll('N', vector.timestamp)] as [string, unknown]),
      ['id', `${vector.id}, ${vector.id}`], ['id', 'msg.1'], ['id', 'm\u00e9'], ['id', 'x'.repeat(257)],
      ['signature', `${vector.signature}, ${vector.signature}`], ['signature', ` ${vector.signature}`],
      ['signature', `${vector.signature} \u00e9`], ['signature', `v1,x  ${vector.signature}`]
    ]
    for (const [name, value] of wrong) {
      const headers = { ...official, [`webhook-${name}`]: value } as IncomingHttpHeaders
      t.match(signature.flawOf(headers, vector.body), /not there, each once, or malformed/, `${name} ${String(value)}`)
    }
  })

  t.test('is made with a secret of at least 24 bytes', async t => {
    const of = (bytes: number): string => `whsec_${Buffer.alloc(bytes, 1).toString('base64')}`
    for (const good of [secret, of(24), of(25), of(26), of(64)]) t.ok(isWebhookSecret(good), good)
    for (const bad of [
      '', 'whsec_', of(23), secret.slice(6), `${secret}\n`, ` ${secret}`, 'whsec_====', `${secret}=`,
      `whsec_${'*'.repeat(32)}`, `whsec_${'-_'.repeat(16)}`, undefined, 7, [secret]
    ]) t.notOk(isWebhookSecret(bad), String(bad))
  })
  t.end()
})

t.test('an event', t => {
  t.test('of a user is an observation of the whole profile', async t => {
    for (const type of ['user.created', 'user.updated']) {
      const reading = readingOf(eventOf(type, userData('user_a', { banned: true })))
      t.match(reading, {
        kind: 'observed',
        observations: [{
          kind: 'profile',
          key,
          version: 1_760_000_000_000,
          profile: {
            email: 'user_a@example.com', firstName: 'Ada', blocked: true, data: { publicMetadata: { plan: 'pro' } }
          }
        }]
      })
      t.notMatch(JSON.stringify(reading), 'admin', 'nothing is taken from what a browser can write')
    }
  })

  t.test('of a deletion needs the id and nothing else', async t => {
    t.match(readingOf(eventOf('user.deleted', { id: 'user_a', object: 'user', deleted: true })), {
      kind: 'observed', observations: [{ kind: 'deleted', key }]
    })
  })

  t.test('of the end of a session says until when its tokens may live, and who its user is', async t => {
    const nowMs = new ManualClock().now()
    const session = { id: 'sess_1', user_id: 'user_a', status: 'ended', user: userData('user_a') }
    for (const type of ['session.ended', 'session.removed', 'session.revoked']) {
      t.match(readingOf(eventOf(type, session, { timestamp: nowMs - 5000 })), {
        kind: 'observed',
        observations: [
          { kind: 'session_ended', key, sessionId: 'sess_1', tokensExpireAtMs: nowMs + 55_000 },
          { kind: 'profile', key, profile: { firstName: 'Ada' } }
        ]
      })
    }
    for (const [timestamp, expected] of [
      [Math.floor(nowMs / 1000) - 5, nowMs + 55_000], // in seconds
      [nowMs + 86_400_000, nowMs + 60_000], ['soon', nowMs + 60_000], [null, nowMs + 60_000], [0, nowMs + 60_000]
    ] as const) {
      const reading = readingOf(eventOf('session.ended', session, { timestamp }))
      t.match(reading, { observations: [{ tokensExpireAtMs: expected }] }, String(timestamp))
    }
  })

  t.test('of a session tells of its user only, where it tells of one', async t => {
    for (const type of ['session.created', 'session.pending', 'session.ended']) {
      const rest = type === 'session.ended' ? [{ kind: 'session_ended' }] : []
      const of = (user: unknown): unknown => readingOf(eventOf(type, { id: 'sess_1', user_id: 'user_a', user }))
      t.match(of(userData('user_a')), { kind: 'observed', observations: [...rest, { kind: 'profile', key }] })
      for (const user of [null, undefined, 'user_a', [], {}, userData('user_b'), { ...userData('user_a'), id: 7 }]) {
        const alone = rest.length === 0 ? { kind: 'ignored' } : { kind: 'observed', observations: { length: 1 } }
        t.match(of(user), alone, JSON.stringify(user))
      }
    }
  })

  t.test('of any other type is ignored', async t => {
    for (const type of ['organization.created', 'user.created ', 'USER.CREATED', '', '__proto__', 'email.created']) {
      t.match(readingOf(eventOf(type, userData('user_a'))), { kind: 'ignored' }, type)
    }
  })

  t.test('of another instance is refused, where one is named', async t => {
    const reader = readerOf({ instanceId: 'ins_1' })
    t.match(readingOf(eventOf('user.created', userData('user_a')), reader), { kind: 'observed' })
    for (const instance of ['ins_2', 'INS_1', 'ins_1 ', null, undefined, ['ins_1'], 1]) {
      const event = eventOf('user.created', userData('user_a'), { instance_id: instance })
      const error = { code: 'ORI_SYNC_WEBHOOK_FOREIGN', statusCode: 400 }
      t.match(readingOf(event, reader), { kind: 'refused', error })
      t.match(readingOf(event), { kind: 'observed' })
    }
    t.match(readingOf(eventOf('any.thing', {}, { instance_id: 'ins_2' }), reader), { kind: 'refused' })
  })

  t.test('that cannot be read says why, and whose it is where that can be read', async t => {
    const cases: Array<[unknown, string | null]> = [
      ['', null], ['{', null], ['nothing', null], ['null', null], ['[]', null], ['"user.created"', null], ['7', null],
      ['\ufeff{}', null], [{}, null], [{ type: 7, data: userData('user_a') }, null], [{ type: ['user.created'] }, null],
      ...['user.created', 'user.updated', 'user.deleted'].flatMap(type => [
        undefined, null, 'user_a', [], {}, { id: null }, { id: 7 }, { id: '' }, { id: 'user_\0' }, { id: '\ud800' },
        { id: 'x'.repeat(256) }, { id: { id: 'user_a' } }
      ].map(data => [eventOf(type, data), null] as [unknown, null])),
      ...['session.created', 'session.ended', 'session.removed', 'session.revoked'].flatMap(type => [
        null, {}, { id: 'sess_1' }, { id: 'sess_1', user_id: 7 },
        { id: 'sess_1', user_id: '\0', user: userData('user_a') }
      ].map(data => [eventOf(type, data), null] as [unknown, null])),
      ...[undefined, null, 7, '', 'sess 1', 'sess\0', 'é', 's'.repeat(256)].map(id => {
        return [eventOf('session.ended', { id, user_id: 'user_a' }), 'user_a'] as [unknown, string]
      })
    ]
    for (const [event, subject] of cases) {
      const shown = JSON.stringify(event)?.slice(0, 100)
      const reading = readingOf(event)
      t.match(reading, { kind: 'unreadable', subject, reason: /^(it|the \w+) (is|holds|does|has)/ }, shown)
      t.notMatch((reading as { reason: string }).reason, /user_a|sess_1/, 'no value in the reason')
    }
  })

  t.test('may be nested as deep as its sender likes: of metadata what lies deep is left out', async t => {
    const deep = '['.repeat(200_000) + ']'.repeat(200_000)
    const session = { id: 'sess_1', user_id: 'user_a', user: userData('user_a') }
    for (const [event, kinds] of [
      [eventOf('user.updated', userData('user_a')), ['profile']],
      [eventOf('session.ended', session), ['session_ended', 'profile']]
    ] as const) {
      const reading = readingOf(JSON.stringify(event).replace('"pro"', deep))
      t.same(reading.kind === 'observed' && reading.observations.map(({ kind }) => kind), kinds)
    }
    t.match(readingOf(deep), { kind: 'unreadable' })
  })

  t.test('may hold names of the prototype and NUL: they are text like any other', async t => {
    const text = JSON.stringify(eventOf('user.updated', userData('user_a', { first_name: 'A\0da' })))
      .replace('"plan":"pro"', '"__proto__":{"admin":true},"constructor":{"prototype":{}},"a\\u0000":"b\\u0000"')
    const reading = readingOf(text)
    t.equal(reading.kind, 'observed')
    const [observation] = reading.kind === 'observed' ? reading.observations : []
    const profile = observation?.kind === 'profile' ? observation.profile : null
    t.equal(profile?.firstName, 'Ada')
    const metadata = profile?.data?.['publicMetadata']
    t.equal(JSON.stringify(metadata), '{"__proto__":{"admin":true},"constructor":{"prototype":{}},"a":"b"}')
    t.equal(Object.getPrototypeOf(metadata), Object.prototype)
    t.notOk('admin' in {})
  })
  t.end()
})

t.test('the options', t => {
  const read = (webhooks: unknown, more: object = {}): unknown => {
    return resolveOptions({ webhooks, ...more } as never).webhooks
  }

  t.test('are complete with the secrets alone, where the issuer is known', async t => {
    t.equal(resolveOptions({}).webhooks, undefined)
    expectTypeOf<NonNullable<SmartSyncOptions['webhooks']>['secrets']>().toEqualTypeOf<string | readonly string[]>()
    // @ts-expect-error -- the secrets are needed
    const wrong: SmartSyncOptions = { webhooks: { issuer } }
    t.ok(wrong)
    const complete = {
      secrets: [secret], issuer, path, instanceId: null, maxBodyBytes: 262_144, revokedForMs: 86_400_000
    }
    t.same(read({ secrets: secret, issuer }), complete)
    t.same(read({ secrets: [secret] }, { clerk: { secretKey: 'sk_1', issuer } }), complete)
    t.same(read({ secrets: secret }, { issuer: { always: issuer } }), complete)
    const own = 'https://own.example'
    t.match(read({ secrets: secret, issuer: own }, { clerk: { secretKey: 'sk_1', issuer } }), { issuer: own })
    const all = {
      secrets: [secret, otherSecret], issuer, path: '/hooks', instanceId: 'ins_1', maxBodyBytes: 1, revokedForMs: 1
    }
    t.same(read(all), all)
  })

  t.test('that are wrong are refused, with the rule and without any secret', async t => {
    const wrong: Array<[unknown, RegExp, object?]> = [
      [{ secrets: secret }, /"webhooks" needs the issuer .* Write for example webhooks: \{ secrets, issuer: /],
      [{ secrets: secret }, /needs the issuer/, { clerk: { secretKey: 'sk_1' } }],
      [
        { secrets: secret, issuer }, /must be the one of the option "issuer".*received "https:\/\/clerk/,
        { issuer: { always: 'https://other.example' } }
      ],
      [{ secrets: secret, issuer: 'https://a b' }, /"issuer" must be an issuer/],
      [{ issuer }, /webhooks: option "secrets" is missing/],
      [{ secrets: [], issuer }, /"secrets" must be a secret, or a list of at least one.*received a list of 0/],
      [{ secrets: '', issuer }, /received a string of 0 characters/],
      [{ secrets: `${secret}\n`, issuer }, /received a string of 39 characters/],
      [{ secrets: [secret, secret.slice(6)], issuer }, /received a list of 2/],
      [{ secrets: secret, issuer, path: 'webhooks' }, /"path" must be a path/],
      [{ secrets: secret, issuer, path: '/:any' }, /"path" must be a path/],
      [{ secrets: secret, issuer, instanceId: 'user_1' }, /"instanceId" must be the id of an instance/],
      [{ secrets: secret, issuer, maxBodyBytes: 0 }, /"maxBodyBytes" must be an integer/],
      [{ secrets: secret, issuer, revokedForMs: Infinity }, /"revokedForMs" must be a whole number/],
      [{ secrets: secret, issuer, secret }, /option "secret" is not known/],
      [secret, /webhooks: the options must be an object; received a string of 38 characters/],
      [[secret], /webhooks: the options must be an object; received a list of 1/]
    ]
    for (const [webhooks, message, more] of wrong) {
      let error: unknown
      try { read(webhooks, more) } catch (caught) { error = caught }
      t.match(error, { code: 'ORI_CONTRACT_INVALID_OPTION', message })
      t.notMatch(String(error), secret.slice(6), 'no secret in the message')
    }
    const clerk = (given: unknown): unknown => resolveOptions({ clerk: given as never })
    t.throws(() => clerk('sk_live_1'), { message: /^(?!.*sk_live)/ }, 'nor that of another option')
    t.throws(() => clerk({ secretKey: 'sk_1', issuer: 'https://a b' }), { message: /must be an issuer/ })
  })
  t.end()
})

t.test('the route', t => {
  t.test('answers with the outcome, and with nothing of the user', async t => {
    const { send, sync, stats, log } = hooked(t)
    const applied = await send(eventOf('user.updated', userData('user_a')))
    t.equal(applied.statusCode, 200)
    t.same(applied.json(), { outcome: 'tombstoned' })
    t.equal(applied.headers['cache-control'], 'no-store')
    t.match(sync.observations, [{ kind: 'profile', key }])
    const ignored = await send(eventOf('organization.created', { id: 'org_1' }))
    t.equal(ignored.statusCode, 204)
    t.equal(ignored.body, '')
    const counts = { applied: 1, ignored: 1, dead_lettered: 0, refused: 0, not_stored: 0 }
    const entries = Object.entries(counts)
    t.same(stats.flat(), Object.fromEntries(entries.map(([outcome, value]) => [`webhooks.${outcome}`, value])))
    t.same(stats.instruments[0]!.read(), entries.map(([outcome, value]) => ({ labels: { outcome }, value })))
    t.same(log, [])
  })

  t.test('hands the sync the bytes as they came, and the lane', async t => {
    const given: unknown[] = []
    const apply: Sync['apply'] = async (observations, options) => {
      given.push(options)
      return observations.map(() => ({ kind: 'tombstoned' }))
    }
    const { send } = hooked(t, { answer: { apply } })
    const event = eventOf('user.updated', userData('user_a'))
    const body = `\n${JSON.stringify(event, null, 2).replace('Ada', '\\u0041da')}\t`
    t.equal((await send(body)).statusCode, 200)
    t.match(given, [{ lane: 'webhook', received: Buffer.from(body), deadline: { signal: AbortSignal } }])
  })

  t.test('answers for the observation that the event was sent for', async t => {
    const apply: Sync['apply'] = async observations => observations.map(({ kind }) => {
      return kind === 'session_ended' ? { kind: 'unknown' } : { kind: 'tombstoned' }
    })
    const { send } = hooked(t, { answer: { apply } })
    const ended = eventOf('session.ended', { id: 'sess_1', user_id: 'user_a', user: userData('user_a') })
    t.same((await send(ended)).json(), { outcome: 'unknown' })
  })

  t.test('takes what became a dead letter for stored', async t => {
    const error = new Error('column "email" takes 5 characters')
    const apply: Sync['apply'] = async observations => observations.map(({ kind }) => {
      return kind === 'profile' ? { kind: 'dead_lettered', error } : { kind: 'tombstoned' }
    })
    const { send, sync, stats, log } = hooked(t, { answer: { apply } })
    const poison = await send(eventOf('user.updated', userData('user_a')))
    t.equal(poison.statusCode, 200)
    t.same(poison.json(), { outcome: 'dead_lettered' })
    const part = await send(eventOf('session.ended', { id: 'sess_1', user_id: 'user_a', user: userData('user_a') }))
    t.same([part.statusCode, part.json()], [200, { outcome: 'tombstoned' }])
    const body = '{"type":"user.created"}'
    const unread = await send(body)
    t.same([unread.statusCode, unread.json()], [200, { outcome: 'dead_lettered' }])
    const reason = 'it holds no user that can be read'
    t.match(sync.letters, [{ lane: 'webhook', issuer, subject: null, received: Buffer.from(body), reason }])
    t.equal(stats.flat()['webhooks.dead_lettered'], 3)
    t.same(log, [], 'the sync tells the log')
  })

  t.test('refuses what is not genuine, by a problem document that repeats nothing and one line in the log', async t => {
    const { app, send, sync, stats, log } = hooked(t, { instanceId: 'ins_1', maxBodyBytes: 1000 })
    const body = JSON.stringify(eventOf('user.deleted', { id: 'user_a' }))
    const nothing = { 'content-type': 'application/json' }
    const typed = (type: string) => async () => await send(body, { headers: { 'content-type': type } })
    const foreign = eventOf('user.deleted', { id: 'user_a' }, { instance_id: 'ins_TheSecretThatWasSent' })
    const cases: Array<[string, number, () => Promise<LightMyRequestResponse>]> = [
      ['UNVERIFIED', 400, async () => await app.inject({ method: 'POST', url: path, body, headers: nothing })],
      ['UNVERIFIED', 400, async () => await app.inject({ method: 'POST', url: path })],
      ['UNVERIFIED', 400, async () => await send(body, { headers: { 'svix-signature': 'v1,TheSecretThatWasSent' } })],
      ['UNVERIFIED', 400, async () => await send(body, { headers: { 'svix-timestamp': '1' } })],
      ['UNVERIFIED', 400, async () => await send(body, { body: body.replace('user_a', 'user_b') })],
      ['FOREIGN', 400, async () => await send(foreign)],
      ['TOO_LARGE', 413, async () => await send('x'.repeat(1001))],
      ['MEDIA_TYPE', 415, typed('text/plain')],
      ['MEDIA_TYPE', 415, typed('application/cloudevents+json')],
      ['MEDIA_TYPE', 415, typed('application/x-www-form-urlencoded')],
      ['MEDIA_TYPE', 415, typed('TheSecretThatWasSent')],
      ['MEDIA_TYPE', 415, typed('application/jsonp')]
    ]
    for (const [what, status, attempt] of cases) {
      log.splice(0)
      const { statusCode, headers, body: answered } = await attempt()
      const problem = JSON.parse(answered)
      t.equal(statusCode, status, what)
      t.equal(headers['content-type'], 'application/problem+json; charset=utf-8')
      t.equal(headers['cache-control'], 'no-store')
      const code = `ORI_SYNC_WEBHOOK_${what}`
      t.match(problem, { type: 'about:blank', title: String, status, code, detail: /The rule: / })
      t.same(Object.keys(problem), ['type', 'title', 'status', 'detail', 'code'])
      t.match(log, { length: 1, 0: { level: 40, code, msg: problem.detail } })
      t.notMatch(answered + JSON.stringify(log), /user_a|TheSecretThatWasSent|whsec|MfKQ9r8G/)
    }
    t.equal(stats.flat()['webhooks.refused'], cases.length)
    t.same([sync.observations, sync.letters], [[], []])
    t.equal((await app.inject({ url: path })).statusCode, 404)
  })

  function parse (app: FastifyInstance, type: string | RegExp, by: (body: string) => unknown): void {
    app.addContentTypeParser(type, { parseAs: 'string' }, (_request, body, done) => { done(null, by(String(body))) })
  }
  function echoes (app: FastifyInstance): void {
    app.post('/echo', async request => {
      return { body: request.body, raw: String((request as { rawBody?: unknown }).rawBody) }
    })
  }
  const parsers: Record<string, (app: FastifyInstance) => unknown> = {
    'fastify-raw-body of all routes': app => app.register(rawBody, { global: true }),
    'fastify-raw-body of all routes, as bytes': app => app.register(rawBody, { global: true, encoding: false }),
    'fastify-raw-body of all routes, first': app => app.register(rawBody, { global: true, runFirst: true }),
    'fastify-raw-body of some routes': app => app.register(rawBody, { global: false }),
    'fastify-raw-body of this route': app => app.register(rawBody, { global: false, routes: [path] }),
    'a parser of anything': app => {
      app.addContentTypeParser('*', (_request, payload, done) => {
        payload.resume()
        done(null, 'anything')
      })
    },
    'a parser of JSON': app => { parse(app, 'application/json', body => JSON.parse(body)) },
    'a parser of whatever is like JSON': app => { parse(app, /^application\/.*json/, () => ({ a: 2 })) },
    'a parser of forms': app => { parse(app, 'application/x-www-form-urlencoded', body => ({ form: body })) },
    'no parser at all': app => { app.removeAllContentTypeParsers() }
  }
  const types = [
    'application/json', 'application/json; charset=utf-8', 'APPLICATION/JSON;charset=UTF-8', 'application/json;a="b"'
  ]
  for (const [name, register] of Object.entries(parsers)) {
    t.test(`gets the bytes beside ${name}, and leaves the app's own routes theirs`, async t => {
      const body = JSON.stringify(eventOf('user.updated', userData('user_a')), null, 1)
      const headers = { 'content-type': 'application/json' }
      const echo = { method: 'POST', url: '/echo', body: '{"a":1}', headers } as const
      const plain = Fastify()
      t.teardown(async () => { await plain.close() })
      await register(plain)
      echoes(plain)
      const expected = await plain.inject(echo)
      for (const order of ['before', 'after'] as const) {
        const { app, send, sync } = hooked(t, {
          [order]: (app: FastifyInstance) => { register(app) }, maxBodyBytes: 2000
        })
        app.register(async scope => { echoes(scope) })
        const statusOf = async (type: string): Promise<number> => {
          return (await send(body, { headers: { 'content-type': type } })).statusCode
        }
        for (const type of types) t.equal(await statusOf(type), 200, type)
        t.equal(await statusOf('text/plain'), 415)
        t.equal((await send(`${body}${' '.repeat(2000)}`)).statusCode, 413)
        t.equal(sync.observations.length, types.length)
        t.equal((await app.inject(echo)).body, expected.body, order)
      }
    })
  }

  t.test('stands below the prefix of its scope, and asks for no session where every other route refuses', async t => {
    const { app, sync, clock } = hooked(t, {
      before: app => {
        sessionHub(app, { refuse: 'always' }).fill('identify', 'test', () => {
          throw Object.assign(new Error('no token'), { statusCode: 401 })
        })
        app.get('/', async () => 'here')
      }
    })
    const receiver = new WebhookReceiver({ reader: readerOf({ clock }), sync, stats: new WebhookStats(), clock })
    app.register(async scope => {
      scope.register(webhookRoutes, { path: '/hooks', maxBodyBytes: 1000, receiver })
    }, { prefix: '/api/v1' })
    const body = JSON.stringify(eventOf('user.deleted', { id: 'user_a' }))
    const headers = { ...signedHeaders(body, { atMs: clock.now() }), authorization: 'Bearer garbage' }
    t.equal((await app.inject({ url: '/', headers })).statusCode, 401)
    t.equal((await app.inject({ method: 'POST', url: '/api/v1/hooks', body, headers })).statusCode, 200)
    t.equal((await app.inject({ method: 'POST', url: path, body, headers })).statusCode, 200)
    t.equal(sync.observations.length, 2)
  })

  t.test('leaves what a hook of the app throws to the error handler of the app', async t => {
    const { send, stats, log } = hooked(t, {
      before: app => {
        app.addHook('preValidation', async () => {
          throw Object.assign(new Error('too many'), { statusCode: 429, code: 'RATE' })
        })
        app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
          return reply.code(error.statusCode ?? 500).send({ mine: error.message })
        })
      }
    })
    const answer = await send(eventOf('user.deleted', { id: 'user_a' }))
    t.same([answer.statusCode, answer.json()], [429, { mine: 'too many' }])
    t.same([Object.values(stats.flat()).every(count => count === 0), log], [true, []])
  })

  t.test('asks the sender to come back when nothing could be stored, and says why in the log only', async t => {
    const cause = new Error('connect ECONNREFUSED')
    const outage = new SourceUnavailable('The database cannot be reached', { retryAfterMs: 4200, cause })
    const defect = Object.assign(new Error('syntax error'), { detail: 'Key (email)=(ada@example.com)' })
    for (const [error, seconds, level] of [[outage, '5', 40], [defect, '1', 50]] as const) {
      const fail = async (): Promise<never> => { throw error }
      const { send, stats, log } = hooked(t, { answer: { apply: fail, deadLetter: fail } })
      for (const event of [eventOf('user.deleted', { id: 'user_a' }), eventOf('user.deleted', {})]) {
        log.splice(0)
        const answer = await send(event)
        t.same([answer.statusCode, answer.headers['retry-after']], [503, seconds])
        t.match(answer.json(), { status: 503, code: 'ORI_SYNC_WEBHOOK_NOT_STORED' })
        t.notMatch(answer.body, /ECONNREFUSED|syntax/)
        t.match(log, { length: 1, 0: { level, err: { message: new RegExp(error.message) } } })
        t.notMatch(JSON.stringify(log), /ada@example|user_a/)
      }
      t.equal(stats.flat()['webhooks.not_stored'], 2)
    }
  })

  t.test('answers after 8 seconds at the latest, whatever the store does', async t => {
    for (const call of ['apply', 'deadLetter'] as const) {
      let given: AbortSignal | undefined
      const hang = async ({ signal }: Deadline): Promise<never> => {
        given = signal
        return await new Promise(() => {})
      }
      const { send, stats, clock } = hooked(t, {
        answer: {
          apply: async (_observations, { deadline }) => await hang(deadline),
          deadLetter: async (_letter, deadline) => await hang(deadline)
        }
      })
      const pending = send(eventOf('user.deleted', call === 'apply' ? { id: 'user_a' } : {}))
      await until('the store is asked', () => given !== undefined)
      clock.advance(7999)
      await clock.settle()
      t.equal(given?.aborted, false)
      t.equal(stats.flat()['webhooks.not_stored'], 0)
      clock.advance(1)
      t.equal((await pending).statusCode, 503)
      t.equal(given?.aborted, true, 'and the store is told')
      t.equal(clock.pendingTimers, 0)
    }
  })

  t.test('leaves no timer behind, whatever it answers', async t => {
    const { send, clock } = hooked(t)
    for (const event of [eventOf('user.deleted', { id: 'user_a' }), eventOf('other', {}), '{']) await send(event)
    await send('{}', { headers: { 'svix-id': '' } })
    t.equal(clock.pendingTimers, 0)
  })

  t.test('over HTTP refuses headers that come twice, and bodies that are longer than is read', async t => {
    const { app, stats, sync, clock } = hooked(t, { maxBodyBytes: 1000 })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const body = JSON.stringify(eventOf('user.deleted', { id: 'user_a' }))
    const good = signedHeaders(body, { atMs: clock.now() })
    t.equal(await overHttp(app, good, body), 200)
    for (const name of ['id', 'timestamp', 'signature']) {
      const twice = { ...good, [`svix-${name}`]: [good[`svix-${name}`]!, good[`svix-${name}`]!] }
      t.equal(await overHttp(app, twice, body), 400, name)
    }
    const long = body + ' '.repeat(1000)
    t.equal(await overHttp(app, signedHeaders(long, { atMs: clock.now() }), long), 413, 'in chunks')
    t.equal(await overHttp(app, { ...good, 'content-length': String(long.length) }, long), 413, 'announced')
    t.equal(await overHttp(app, { ...good, 'content-encoding': 'gzip' }, body), 200, 'the bytes are what was signed')
    t.same([sync.observations.length, stats.flat()['webhooks.refused']], [2, 5])
  })

  t.test('answers a request that is under way when the server closes', async t => {
    let arrived = false
    let release = (): void => {}
    const apply: Sync['apply'] = async observations => {
      arrived = true
      await new Promise<void>(resolve => { release = resolve })
      return observations.map(() => ({ kind: 'tombstoned' }))
    }
    const { app, clock } = hooked(t, { answer: { apply } })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const body = JSON.stringify(eventOf('user.deleted', { id: 'user_a' }))
    const pending = overHttp(app, signedHeaders(body, { atMs: clock.now() }), body)
    await until('the request is under way', () => arrived)
    const closed = app.close()
    await clock.settle()
    release()
    t.equal(await pending, 200)
    await closed
  })

  t.test('survives whatever is sent to it: no 5xx, nothing stored that was not signed', async t => {
    const { app, sync } = hooked(t, { instanceId: 'ins_1', maxBodyBytes: 4096 })
    const names = ['id', 'timestamp', 'signature'].flatMap(name => [`svix-${name}`, `webhook-${name}`])
    const value = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 80 }), fc.constantFrom('1767225600', 'v1,', 'v1, v1', 'v1,AAAA', ',', ' ')
    )
    const headers = fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 6 })
    const json = 'application/json'
    const type = fc.constantFrom(json, `${json}; charset`, `${json};;`, 'text/plain', 'a/b', '', ';', 'x'.repeat(300))
    const bytes = fc.uint8Array({ maxLength: 5000 })
    await fc.assert(fc.asyncProperty(headers, type, bytes, async (given, type, bytes) => {
      const headers = { ...given, 'content-type': type }
      const { statusCode, body } = await app.inject({ method: 'POST', url: path, headers, body: Buffer.from(bytes) })
      return [400, 413, 415].includes(statusCode) && JSON.parse(body).status === statusCode
    }), { numRuns: 300 })
    t.same([sync.observations, sync.letters], [[], []])
  })

  t.test('survives whatever its sender signs: it is applied, ignored, refused or kept', async t => {
    const { send, sync, stats } = hooked(t, { instanceId: 'ins_1', maxBodyBytes: 4096 })
    const any = fc.jsonValue({ maxDepth: 3, stringUnit: 'binary' })
    const odd = fc.constantFrom('', '\0', '\ud800', '__proto__', 'x'.repeat(300), -1, 1e308)
    /** Mostly what it should be. */
    const mostly = (usual: unknown): fc.Arbitrary<unknown> => {
      return fc.oneof({ weight: 6, arbitrary: fc.constant(usual) }, odd, any, fc.constant(undefined))
    }
    const user = fc.record({
      id: mostly('user_a'),
      updated_at: mostly(1_760_000_000_000),
      banned: any,
      public_metadata: any,
      first_name: mostly('Ada'),
      email_addresses: fc.oneof(any, fc.array(fc.record({ id: odd, email_address: any }))),
      primary_email_address_id: odd
    })
    const session = fc.record({ id: mostly('sess_1'), user_id: mostly('user_a'), user: fc.oneof(user, any) })
    const types = ['user.created', 'user.updated', 'user.deleted', 'session.created', 'session.ended']
    const event = fc.record({
      type: fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...types) }, odd, any),
      data: fc.oneof(user, session, any),
      timestamp: mostly(1_760_000_000_000),
      instance_id: mostly('ins_1')
    })
    const json = fc.oneof(event, any).map(value => JSON.stringify(value))
    const body = fc.oneof(json, json, fc.string({ unit: 'grapheme' }))
    await fc.assert(fc.asyncProperty(body, async body => {
      const { statusCode } = await send(body)
      return [200, 204, 400, 413].includes(statusCode)
    }), { numRuns: 1000 })
    for (const observation of sync.observations) {
      t.equal(observation.key, sessionKey(issuer, observation.subject))
      if (observation.kind === 'session_ended') t.ok(Number.isSafeInteger(observation.tokensExpireAtMs))
    }
    t.ok(stats.flat()['webhooks.applied']! > 0 && stats.flat()['webhooks.dead_lettered']! > 0)
    t.equal(stats.flat()['webhooks.not_stored'], 0)
    for (const { subject, reason } of sync.letters) {
      t.ok(subject === null || subjectFlaw(subject) === null)
      t.match(reason, /^(it|the) /)
    }
  })
  t.end()
})

/** Sends a request over HTTP, in chunks unless its length is given, and answers with the status. */
async function overHttp (
  app: FastifyInstance, headers: Record<string, string | string[]>, body: string
): Promise<number> {
  const { port } = app.server.address() as AddressInfo
  const request = httpRequest({ port, host: '127.0.0.1', method: 'POST', path, headers, agent: false })
  request.on('error', () => {})
  request.end(body)
  const [response] = await once(request, 'response')
  response.resume()
  return response.statusCode
}
