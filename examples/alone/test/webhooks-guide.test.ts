import { readFileSync } from 'node:fs'
import { verifyWebhook } from '@clerk/fastify/webhooks'
import { clerkSimulator, type Delivery, type Simulator } from '@orientor/clerk-simulator'
import fastifyPostgres from '@fastify/postgres'
import { sessionCache } from '@orientor/session-cache'
import { postgresBus } from '@orientor/session-cache/postgres'
import { requireSessionUser } from '@orientor/session-contract'
import { sessionIdentity, type SessionIdentityOptions } from '@orientor/session-identity'
import { smartSync, type SmartSyncOptions } from '@orientor/smart-sync'
import { testDatabase, until } from '@orientor/test-kit'
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import pg from 'pg'
import { Webhook } from 'standardwebhooks'
import t, { type Test } from 'tap'

const document = readFileSync(new URL('../../../docs/webhooks.md', import.meta.url), 'utf8')
const ran = new Set<string>()
const fenced = [...document.matchAll(/```(js|sql) ([\w-]+)\n([\s\S]*?)```/g)]
const blocks = new Map(fenced.map(([, language, name, text]) => [`${language} ${name}`, text!]))
const block = (name: string): string => {
  const text = blocks.get(name)
  if (text === undefined) throw new Error(`The document has no block "${name}"`)
  ran.add(name)
  return text
}

const issuer = 'https://clerk.example.com'
const secretOf = (fill: number): string => `whsec_${Buffer.alloc(24, fill).toString('base64')}`
const [oldSecret, secret, nextSecret] = [secretOf(1), secretOf(2), secretOf(3)]
type Run = (...given: unknown[]) => Promise<unknown>
const AsyncFunction = (async () => {}).constructor as new (...parts: string[]) => Run

/** Runs a block of the document, as it stands there, with what an app imports. */
async function run (name: string, known: object): Promise<void> {
  await new AsyncFunction(...Object.keys(known), block(name))(...Object.values(known))
}

/** The plugin with more options than the document writes: they lead to the simulator. */
function withMore<O extends object> (plugin: FastifyPluginAsync<O>, more: (options: O) => O): FastifyPluginAsync<O> {
  const wrapped: FastifyPluginAsync<O> = async (app, options) => {
    await app.register(plugin as FastifyPluginAsync, more(options))
  }
  return Object.assign(wrapped, { [Symbol.for('skip-override')]: true })
}

interface Answer { readonly status: number, readonly body: Record<string, unknown> | null }

interface World {
  readonly simulator: Simulator
  readonly pool: pg.Pool
  /** Where the app listens. */
  readonly address: string
  /** What the blocks of the document know. */
  readonly known: object
  readonly welcomed: readonly string[]
  /** The users of the table, in order. */
  rows (): Promise<Array<Record<string, unknown>>>
  /** Asks for /me with a token. */
  me (token: string): Promise<Answer>
  /** Posts an event that the simulator would not send. */
  post (body: string, how?: { readonly by?: string, readonly path?: string, readonly type?: string }): Promise<Answer>
}

/** An app made of blocks of the document, on its table, and a simulated Clerk with an endpoint for each route. */
async function world (
  t: Test, names: readonly string[], { instanceId }: { readonly instanceId?: string } = {}
): Promise<World> {
  const { url } = await testDatabase(t)
  const pool = new pg.Pool({ connectionString: url, max: 3 })
  pool.on('error', () => {})
  t.teardown(async () => { await pool.end() })
  await pool.query(block('sql before'))

  const clerk = await clerkSimulator({ issuer, seed: 1, authorizedParty: 'https://app.example.com' })
  t.teardown(() => clerk.close())
  const apiUrl = await clerk.listen({ port: 0, host: '127.0.0.1' })
  const { simulator } = clerk
  const { jwksUrl, secretKey } = simulator

  const app: FastifyInstance = Fastify()
  t.teardown(async () => { await app.close() })
  const welcomed: string[] = []
  const known = {
    app,
    connectionString: url,
    issuer,
    fastifyPostgres,
    verifyWebhook,
    postgresBus,
    sessionCache,
    requireSessionUser,
    clerkSimulator,
    smartSync: withMore<SmartSyncOptions>(smartSync, given => ({ ...given, clerk: { ...given.clerk!, apiUrl } })),
    sessionIdentity: withMore<SessionIdentityOptions>(sessionIdentity, given => ({ ...given, jwksUrl })),
    sendWelcome: async (id: string) => { welcomed.push(id) },
    process: {
      env: {
        CLERK_SECRET_KEY: secretKey,
        CLERK_WEBHOOK_SIGNING_SECRET: oldSecret,
        CLERK_WEBHOOK_SECRET: secret,
        CLERK_WEBHOOK_SECRET_NEXT: nextSecret,
        CLERK_INSTANCE_ID: instanceId ?? simulator.instanceId
      }
    }
  }
  for (const name of names) await run(name, known)
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  for (const [path, by] of [['/api/webhooks', oldSecret], ['/webhooks/clerk', secret]] as const) {
    const isThere = app.hasRoute({ method: 'POST', url: path })
    if (isThere) await simulator.addWebhookEndpoint({ url: `${address}${path}`, secret: by })
  }
  return {
    simulator,
    pool,
    address,
    known,
    welcomed,
    rows: async () => (await pool.query<Record<string, unknown>>('SELECT * FROM users ORDER BY id')).rows,
    me: async token => await answerOf(await fetch(`${address}/me`, { headers: { authorization: `Bearer ${token}` } })),
    async post (body, { by = secret, path = '/webhooks/clerk', type = 'application/json' } = {}) {
      const seconds = Math.floor(Date.now() / 1000)
      const headers = {
        'content-type': type,
        'svix-id': 'msg_1',
        'svix-timestamp': String(seconds),
        'svix-signature': new Webhook(by).sign('msg_1', new Date(seconds * 1000), body)
      }
      return await answerOf(await fetch(`${address}${path}`, { method: 'POST', body, headers }))
    }
  }
}

async function answerOf (response: Response): Promise<Answer> {
  const text = await response.text()
  const isJson = /json/.test(String(response.headers.get('content-type')))
  return { status: response.status, body: isJson ? JSON.parse(text) as Record<string, unknown> : null }
}

/** What was delivered of a type, in order. */
async function delivered ({ simulator }: World, type: string): Promise<readonly Delivery[]> {
  return (await simulator.deliveries()).filter(delivery => delivery.type === type)
}

/** Sends the first event of a type once more. */
async function replay (world: World, type: string): Promise<Delivery> {
  return await world.simulator.redeliver((await delivered(world, type))[0]!.messageId)
}

const before = ['js before']
const firstStatement = 'await app.register(fastifyPostgres, { connectionString })'
// What stays of the old app.
const pool = 'js pool'
blocks.set(pool, firstStatement)
const after = [pool, 'js step-1', 'js step-3']

interface Case {
  readonly name: string
  /** What happens, and what then is in the table, or was answered. */
  readonly happens: (world: World, isOld: boolean) => Promise<unknown>
  readonly old: unknown
  readonly now: unknown
}

const cases: readonly Case[] = [
  {
    name: 'late',
    async happens ({ simulator, rows, me }, isOld) {
      simulator.faults.webhooks.set({ delayMs: 600_000 })
      const { id: userId } = await simulator.createUser({ firstName: 'Ada' })
      if (!isOld) t.match(await me(await simulator.mintToken({ userId })), { status: 200, body: { firstName: 'Ada' } })
      return (await rows()).map(({ first_name: name }) => name)
    },
    old: [],
    now: ['Ada']
  },
  {
    name: 'late, and then it comes',
    async happens (world, isOld) {
      const { simulator, rows, me } = world
      simulator.faults.webhooks.set({ dropRatio: 1 })
      const { id: userId } = await simulator.createUser()
      if (!isOld) t.match(await me(await simulator.mintToken({ userId })), { status: 200 })
      return [(await replay(world, 'user.created')).status, (await rows()).length]
    },
    old: [200, 1],
    now: [200, 1]
  },
  {
    name: 'twice',
    async happens (world) {
      world.simulator.faults.webhooks.set({ duplicateRatio: 1 })
      await world.simulator.createUser()
      return [...(await delivered(world, 'user.created')).map(({ status }) => status), (await world.rows()).length]
    },
    old: [200, 400, 1],
    now: [200, 200, 1]
  },
  {
    name: 'out of order',
    async happens (world) {
      const { simulator, rows } = world
      simulator.faults.webhooks.set({ dropRatio: 1 })
      const { id } = await simulator.createUser({ firstName: 'Ada' })
      simulator.faults.webhooks.set(null)
      await simulator.updateUser(id, { firstName: 'Grace' })
      await replay(world, 'user.created')
      return (await rows()).map(({ first_name: name }) => name)
    },
    old: ['Ada'],
    now: ['Grace']
  },
  {
    name: 'deleted, then an older event',
    async happens (world) {
      const { id } = await world.simulator.createUser()
      await world.simulator.deleteUser(id)
      await replay(world, 'user.created')
      return (await world.rows()).map(({ deleted_at: deletedAt }) => deletedAt instanceof Date)
    },
    old: [false],
    now: [true]
  },
  {
    name: 'several e-mail addresses',
    async happens ({ simulator, rows }) {
      await simulator.createUser({ email: 'primary@example.com', otherEmails: ['other@example.com'] })
      await simulator.deliveries()
      return (await rows()).map(({ email }) => email)
    },
    old: ['other@example.com'],
    now: ['primary@example.com']
  },
  {
    name: 'JSON that JSON.stringify() would write otherwise',
    async happens ({ post, rows }, isOld) {
      const data = '{"id":"user_1","first_name":"Ben \\u0026 Jerry","updated_at":1760000000000}'
      const body = `{"type":"user.created","data":${data}}`
      const { status } = await post(body, isOld ? { by: oldSecret, path: '/api/webhooks' } : {})
      return [status, ...(await rows()).map(({ first_name: name }) => name)]
    },
    old: [400],
    now: [200, 'Ben & Jerry']
  }
]

for (const { name, happens, old, now } of cases) {
  t.test(`the table of what goes wrong is right: ${name}`, async t => {
    t.strictSame(await happens(await world(t, before), true), old, 'with the code of the guide')
    t.strictSame(await happens(await world(t, after), false), now, 'with smart-sync')
  })
}

t.test('the tokens of a session that ended get 401, those of another one do not, and a ban is 403', async t => {
  const one = await world(t, after)
  const { simulator, me } = one
  const { id: userId } = await simulator.createUser()
  const signIn = async (): Promise<{ readonly sessionId: string, readonly token: string }> => {
    const { id: sessionId } = await simulator.createSession(userId)
    return { sessionId, token: await simulator.mintToken({ userId, sessionId }) }
  }
  const [phone, laptop] = [await signIn(), await signIn()]
  t.equal((await me(phone.token)).status, 200)
  await simulator.signOut({ userId, sessionId: phone.sessionId })
  t.match(await delivered(one, 'session.ended'), [{ status: 200 }])
  await until('the session is refused', async () => (await me(phone.token)).status === 401, 10_000)
  t.equal((await me(laptop.token)).status, 200)
  await simulator.banUser(userId)
  await simulator.deliveries()
  await until('the ban bars', async () => (await me(laptop.token)).status === 403, 10_000)
})

t.test('rows of the old app are found, its own columns stay, and the query of the check shows them', async t => {
  const { simulator, pool, rows } = await world(t, after)
  await pool.query("INSERT INTO users (clerk_id, first_name, plan) VALUES ('user_old', 'Old', 'pro')")
  await simulator.createUser({ id: 'user_old', firstName: 'New' })
  await simulator.deliveries()
  t.match(await rows(), [{ clerk_id: 'user_old', first_name: 'New', plan: 'pro' }])
  const { rows: shown } = await pool.query(block('sql step-5'))
  t.match(shown, [{ clerk_id: 'user_old', first_name: 'New', clerk_updated_at: Date }])
})

t.test('the old route does the rest beside the new one, and what old instances overwrote is mended', async t => {
  const one = await world(t, [...after, 'js step-4'])
  const { simulator, pool, rows, me, welcomed } = one
  const { id: userId } = await simulator.createUser({ firstName: 'Ada' })
  t.match(await delivered(one, 'user.created'), [{ status: 200 }, { status: 200 }])
  t.strictSame(welcomed, [userId])
  const token = await simulator.mintToken({ userId })
  t.equal((await me(token)).status, 200)

  const nameIs = async (name: string): Promise<boolean> => (await rows())[0]!['first_name'] === name
  await pool.query("UPDATE users SET first_name = 'overwritten'")
  await simulator.redeliver((await delivered(one, 'user.created')).at(-1)!.messageId)
  t.ok(await nameIs('overwritten'), 'nothing tells that the row is not what was written')
  await pool.query(block('sql step-4'))
  await until('the row is right', async () => {
    await me(token)
    return await nameIs('Ada')
  }, 10_000)
})

t.test('each answer of the table comes, and no other', async t => {
  const seen: number[] = []
  const one = await world(t, after)
  const { simulator, pool, post } = one
  const event = (type: string, data: object): string => JSON.stringify({ type, data })
  const outcome = async (type: string, data: object): Promise<unknown> => {
    const { status, body } = await post(event(type, data))
    seen.push(status)
    return body?.['outcome']
  }
  const user = { id: 'user_1', first_name: 'Ada', updated_at: 1_760_000_000_000 }
  t.equal(await outcome('user.created', user), 'created')
  t.equal(await outcome('user.created', user), 'unchanged')
  t.equal(await outcome('user.updated', { ...user, first_name: 'Grace', updated_at: user.updated_at + 1 }), 'updated')
  t.equal(await outcome('user.updated', user), 'outdated')
  t.equal(await outcome('user.deleted', { id: user.id }), 'tombstoned')
  t.equal(await outcome('user.updated', user), 'tombstoned')
  t.equal(await outcome('user.updated', {}), 'dead_lettered')
  t.equal(await outcome('organization.created', {}), undefined)

  const statusOf = async (answer: Promise<Answer>): Promise<number> => {
    const { status } = await answer
    seen.push(status)
    return status
  }
  t.equal(await statusOf(post(event('user.created', user), { by: oldSecret })), 400)
  t.equal(await statusOf(post('x'.repeat(1_048_577))), 413)
  t.equal(await statusOf(post(event('user.created', user), { type: 'text/plain' })), 415)
  await pool.query('ALTER TABLE users RENAME TO gone')
  await simulator.createUser()
  const [{ status }] = await delivered(one, 'user.created') as [Delivery]
  t.equal(status, 503)
  seen.push(status!)
  const told = [...document.matchAll(/^\| (\d{3}(?:, \d{3})*) /gm)].flatMap(([, statuses]) => statuses!.split(', '))
  t.strictSame([...new Set(seen)].sort(), told.map(Number))
})

t.test('what cannot be stored is found among the dead letters, once, and can be cleared', async t => {
  const one = await world(t, after)
  const { simulator, pool, post, rows } = one
  await pool.query('ALTER TABLE users ADD CONSTRAINT short CHECK (length(first_name) < 4)')
  const letters = async (): Promise<Array<Record<string, unknown>>> => {
    return (await pool.query<Record<string, unknown>>(block('sql dead-letters'))).rows
  }
  const body = '{"type":"user.updated","data":{}}'
  const kept = { status: 200, body: { outcome: 'dead_lettered' } }
  t.match([await post(body), await post(body)], [kept, kept])
  const { id } = await simulator.createUser({ firstName: 'Augusta' })
  await simulator.createUser({ updatedAt: Date.now() + 2 * 86_400_000 })
  await simulator.deliveries()
  const [ahead, long, unreadable] = await letters()
  t.match(unreadable, { clerk_user_id: null, sqlstate: null, received: body })
  t.match(long, { clerk_user_id: id, sqlstate: '23514', received: /Augusta/ })
  t.match(ahead, { reason: /ahead|future/ })
  t.equal((await letters()).length, 3)

  await pool.query('ALTER TABLE users DROP CONSTRAINT short')
  await simulator.redeliver((await delivered(one, 'user.created'))[0]!.messageId)
  t.match(await rows(), [{ clerk_id: id, first_name: 'Augusta' }])
  for (const letter of await letters()) await pool.query(block('sql dead-letters-done'), [letter['id']])
  t.strictSame(await letters(), [])
})

t.test('under the policy "delete" the row goes, and one that is referred to stays, with a dead letter', async t => {
  const one = await world(t, [pool, 'js deletion', 'js step-3'])
  const { simulator, pool: sql, rows, me } = one
  await sql.query('CREATE TABLE orders (user_id bigint NOT NULL REFERENCES users)')
  const [ada, grace] = [await simulator.createUser(), await simulator.createUser()]
  await simulator.deliveries()
  await sql.query('INSERT INTO orders SELECT id FROM users WHERE clerk_id = $1', [grace.id])
  const tokens = await Promise.all([ada, grace].map(async ({ id: userId }) => await simulator.mintToken({ userId })))
  for (const { id } of [ada, grace]) await simulator.deleteUser(id)
  t.match(await delivered(one, 'user.deleted'), [{ status: 200 }, { status: 200 }])
  t.match(await rows(), [{ clerk_id: grace.id, deleted_at: Date }])
  t.match((await sql.query(block('sql dead-letters'))).rows, [{ clerk_user_id: grace.id, sqlstate: '23503' }])
  for (const token of tokens) t.equal((await me(token)).status, 401)
})

t.test('with two secrets each event of two endpoints is taken, and changes the row once', async t => {
  for (const [step, statuses] of [['js rotation', [200, 200]], ['js step-1', [200, 400]]] as const) {
    const one = await world(t, [pool, step])
    await one.simulator.addWebhookEndpoint({ url: `${one.address}/webhooks/clerk`, secret: nextSecret })
    await one.simulator.createUser()
    const deliveries = await delivered(one, 'user.created')
    t.strictSame(deliveries.map(({ status }) => status).sort(), statuses, step)
    t.equal(new Set(deliveries.map(({ messageId }) => messageId)).size, 2)
    t.equal((await one.rows()).length, 1)
  }
})

t.test('with instanceId the events of that instance are taken, and those of others refused', async t => {
  for (const [instanceId, status] of [[undefined, 200], ['ins_other', 400]] as const) {
    const one = await world(t, [pool, 'js instance'], { ...instanceId !== undefined && { instanceId } })
    await one.simulator.createUser()
    t.match(await delivered(one, 'user.created'), [{ status }])
  }
})

t.test('the simulator sends to the app what the document makes it send', async t => {
  const { known, address, rows } = await world(t, after)
  const started: typeof clerkSimulator = async options => {
    const clerk = await clerkSimulator(options)
    t.teardown(() => clerk.close())
    return clerk
  }
  await run('js simulator', { ...known, address, clerkSimulator: started })
  t.match(await rows(), [{ first_name: 'Grace', email: 'ada@example.com' }])
})

t.test('what the document imports is there', async t => {
  const imports = [...block('js imports').matchAll(/^import \{ (\w+) \} from '([^']+)'$/gm)]
  t.equal(imports.length, block('js imports').trim().split('\n').length)
  for (const [, name, from] of imports) {
    const found = await import(from!) as Record<string, unknown>
    t.type(found[name!], 'function', `${name} of ${from}`)
  }
})

t.test('every block of the document was run', async t => {
  t.ok(block('js before').startsWith(firstStatement))
  t.strictSame([...blocks.keys()].filter(name => !ran.has(name)), [])
})
