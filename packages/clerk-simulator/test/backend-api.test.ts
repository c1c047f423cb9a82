import { ManualClock } from '@orientor/test-kit'
import { createRemoteJWKSet, decodeJwt, jwtVerify, SignJWT, generateKeyPair } from 'jose'
import t, { type Test } from 'tap'
import { clerkSimulator, type ClerkErrorBody, type ClerkSimulatorApp, type ClerkUser, type SimulatorOptions } from '../src/index.js'

const start = Date.UTC(2026, 0, 1, 12)

interface Answer<T> { readonly status: number, readonly headers: Record<string, unknown>, readonly body: T }

async function setUp (t: Test, options: SimulatorOptions = {}) {
  const clock = new ManualClock({ now: start })
  const clerk = await clerkSimulator({ clock, issuer: 'https://clerk.example.test', ...options })
  t.teardown(() => clerk.close())
  const get = async <T = ClerkUser[]>(path: string, authorization = `Bearer ${clerk.simulator.secretKey}`): Promise<Answer<T>> => {
    const response = await clerk.inject({ url: path, headers: { authorization } })
    return { status: response.statusCode, headers: response.headers, body: response.json() }
  }
  const ids = async (path: string): Promise<string[]> => (await get(path)).body.map(({ id }) => id)
  return { clock, clerk, simulator: clerk.simulator, get, ids }
}

async function people (clerk: ClerkSimulatorApp, clock: ManualClock, count: number): Promise<string[]> {
  const made = []
  for (let index = 0; index < count; index++) {
    made.push((await clerk.simulator.createUser({ firstName: `Name${index}`, email: `person${index}@example.test` })).id)
    clock.advance(1)
  }
  return made
}

t.test('A session token has the claims and the header of Clerk, version 2, and lives for 60 seconds.', async t => {
  const { clock, simulator } = await setUp(t, { authorizedParty: 'https://app.example.test' })
  const user = await simulator.createUser()
  const session = await simulator.createSession(user.id)
  clock.advance(125_000)
  const token = await simulator.mintToken({ userId: user.id })
  const iat = start / 1000 + 125
  const { jti, ...claims } = decodeJwt(token)
  t.match(jti, /^[0-9a-f]{20}$/)
  t.strictSame(claims, {
    azp: 'https://app.example.test',
    exp: iat + 60,
    fva: [2, -1],
    iat,
    iss: 'https://clerk.example.test',
    nbf: iat - 10,
    sid: session.id,
    sts: 'active',
    sub: user.id,
    v: 2
  })
  t.strictSame(JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()), {
    alg: 'RS256', cat: 'cl_B7d4PD111AAA', kid: simulator.instanceId, typ: 'JWT'
  })
})

t.test('A token takes another lifetime, another kid and custom claims, and leaves out a claim that is undefined.', async t => {
  const { simulator } = await setUp(t)
  const user = await simulator.createUser()
  const token = await simulator.mintToken({
    userId: user.id, lifetimeSeconds: -3600, kid: 'ins_other', claims: { email: 'a@example.test', sub: 'somebody', iat: undefined, azp: undefined }
  })
  const claims = decodeJwt(token)
  t.equal(claims.exp, start / 1000 - 3600)
  t.match(claims, { email: 'a@example.test', sub: 'somebody' })
  t.notOk('iat' in claims || 'azp' in claims)
  t.match(JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()), { kid: 'ins_other' })
})

t.test('Tokens of one user share the latest active session unless another one is named.', async t => {
  const { simulator } = await setUp(t)
  const user = await simulator.createUser()
  const sid = async (sessionId?: string) => decodeJwt(await simulator.mintToken({ userId: user.id, ...sessionId !== undefined && { sessionId } }))['sid']
  const first = await sid()
  t.equal(await sid(), first)
  const second = await simulator.createSession(user.id)
  t.equal(await sid(), second.id)
  t.equal(await sid(String(first)), first)
})

t.test('A listening simulator is its own issuer, and its tokens verify against the keys it serves.', async t => {
  const clerk = await clerkSimulator()
  t.teardown(() => clerk.close())
  const user = await clerk.simulator.createUser()
  await t.rejects(clerk.simulator.mintToken({ userId: user.id }), /has no address yet.*listen\(\).*"issuer"/)
  const origin = await clerk.listen({ port: 0, host: '127.0.0.1' })
  t.equal(clerk.simulator.issuer, origin)
  t.equal(clerk.simulator.apiUrl, `${origin}/v1`)
  const keys = createRemoteJWKSet(new URL(clerk.simulator.jwksUrl))
  const rules = { issuer: origin, algorithms: ['RS256'], typ: 'JWT', requiredClaims: ['sub', 'sid', 'exp'] }
  const { payload } = await jwtVerify(await clerk.simulator.mintToken({ userId: user.id }), keys, rules)
  t.equal(payload.sub, user.id)

  const stranger = await generateKeyPair('RS256')
  const forged = await new SignJWT(payload).setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid: clerk.simulator.instanceId }).sign(stranger.privateKey)
  await t.rejects(jwtVerify(forged, keys, rules), { code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' })
  await t.rejects(jwtVerify(await clerk.simulator.mintToken({ userId: user.id, lifetimeSeconds: -60 }), keys, rules), { code: 'ERR_JWT_EXPIRED' })
  await t.rejects(jwtVerify(await clerk.simulator.mintToken({ userId: user.id, kid: 'ins_unknown' }), keys, rules), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
})

t.test('The keys are public under /.well-known and need the secret key under /v1; the private key is in neither.', async t => {
  const { clerk, simulator, get } = await setUp(t)
  const open = (await clerk.inject('/.well-known/jwks.json')).json()
  t.match(open, { keys: [{ use: 'sig', kty: 'RSA', alg: 'RS256', kid: /^ins_[0-9A-Za-z]{27}$/, n: /^[\w-]{342}$/, e: 'AQAB' }] })
  t.strictSame(Object.keys(open.keys[0]).sort(), ['alg', 'e', 'kid', 'kty', 'n', 'use'])
  t.strictSame((await get('/v1/jwks')).body, open)
  t.equal((await get('/v1/jwks', 'Bearer wrong')).status, 401)
  t.equal(simulator.instanceId, open.keys[0].kid)
})

t.test('Without the secret key the API answers 401, with one code for a missing bearer and another for a wrong one.', async t => {
  const { get } = await setUp(t)
  for (const malformed of ['', 'Basic x', 'Bearer', 'Bearer a b']) {
    t.match(await get<ClerkErrorBody>('/v1/users', malformed), { status: 401, body: { errors: [{ code: 'authorization_header_format_invalid' }] } }, malformed)
  }
  t.match(await get<ClerkErrorBody>('/v1/users', 'Bearer sk_test_wrong'), { status: 401, body: { errors: [{ code: 'clerk_key_invalid' }], clerk_trace_id: /^[0-9a-f]{32}$/ } })
})

t.test('A user has the whole User object, instants in milliseconds and ids with their prefix.', async t => {
  const { simulator, get } = await setUp(t)
  const made = await simulator.createUser({
    firstName: 'Ada',
    lastName: 'Lovelace',
    username: 'ada',
    locale: 'en-GB',
    externalId: 'ext-1',
    imageUrl: 'https://img.example.test/ada',
    email: 'ada@example.test',
    otherEmails: ['countess@example.test'],
    publicMetadata: { role: 'admin' },
    privateMetadata: { secret: 1 },
    unsafeMetadata: { theme: 'dark' },
    locked: true
  })
  const { body } = await get<ClerkUser>(`/v1/users/${made.id}`)
  t.strictSame(body, made)
  t.match(body.id, /^user_[0-9A-Za-z]{27}$/)
  t.strictSame(body, {
    id: made.id,
    object: 'user',
    username: 'ada',
    first_name: 'Ada',
    last_name: 'Lovelace',
    locale: 'en-GB',
    image_url: 'https://img.example.test/ada',
    profile_image_url: 'https://img.example.test/ada',
    has_image: true,
    primary_email_address_id: made.primary_email_address_id,
    primary_phone_number_id: null,
    primary_web3_wallet_id: null,
    password_enabled: true,
    two_factor_enabled: false,
    totp_enabled: false,
    backup_code_enabled: false,
    email_addresses: made.email_addresses,
    phone_numbers: [],
    web3_wallets: [],
    passkeys: [],
    external_accounts: [],
    saml_accounts: [],
    enterprise_accounts: [],
    public_metadata: { role: 'admin' },
    private_metadata: { secret: 1 },
    unsafe_metadata: { theme: 'dark' },
    external_id: 'ext-1',
    last_sign_in_at: null,
    banned: false,
    locked: true,
    deprovisioned: false,
    lockout_expires_in_seconds: null,
    verification_attempts_remaining: 100,
    created_at: start,
    updated_at: start,
    delete_self_enabled: true,
    create_organization_enabled: true,
    create_organizations_limit: null,
    last_active_at: null,
    mfa_enabled_at: null,
    mfa_disabled_at: null,
    password_last_updated_at: null,
    legal_accepted_at: null,
    bypass_client_trust: false
  })
  t.strictSame(body.email_addresses.map(entry => entry.email_address), ['countess@example.test', 'ada@example.test'])
  const primary = body.email_addresses.find(({ id }) => id === body.primary_email_address_id)
  t.match(primary?.id, /^idn_[0-9A-Za-z]{27}$/)
  t.strictSame({ ...primary, id: '' }, {
    id: '',
    object: 'email_address',
    email_address: 'ada@example.test',
    reserved: false,
    verification: { object: 'verification_admin', status: 'verified', strategy: 'admin', attempts: null, expire_at: null },
    linked_to: [],
    matches_sso_connection: false,
    created_at: start,
    updated_at: start
  })
})

t.test('A bare user has null where Clerk has null, and an e-mail address that was never verified has no verification.', async t => {
  const { simulator } = await setUp(t)
  t.match(await simulator.createUser(), { first_name: null, primary_email_address_id: null, email_addresses: [], external_id: null, has_image: false })
  t.match(await simulator.createUser({ email: 'new@example.test', emailVerified: false }), { email_addresses: [{ verification: null, reserved: true }] })
})

t.test('An unknown user is a 404 in the shape of Clerk, and so is an unknown path.', async t => {
  const { get } = await setUp(t)
  const { status, body } = await get<ClerkErrorBody>('/v1/users/user_nobody')
  t.equal(status, 404)
  t.match(body.clerk_trace_id, /^[0-9a-f]{32}$/)
  t.strictSame(body.errors, [{ message: 'not found', long_message: 'No user was found with id user_nobody', code: 'resource_not_found' }])
  t.match(await get<ClerkErrorBody>('/v1/nothing'), { status: 404, body: { errors: [{ code: 'resource_not_found' }] } })
})

t.test('A page holds 10 users by default, newest first, and 500 at most.', async t => {
  const { clerk, clock, get, ids } = await setUp(t)
  const made = (await people(clerk, clock, 12)).reverse()
  t.strictSame(await ids('/v1/users'), made.slice(0, 10))
  t.strictSame(await ids('/v1/users?limit=500'), made)
  t.strictSame(await ids('/v1/users?limit=3&offset=10'), made.slice(10))
  for (const query of ['limit=0', 'limit=501', 'limit=ten', 'limit=1.5', 'offset=-1', 'created_at_after=x', 'banned=maybe', 'order_by=shoe_size']) {
    t.match(await get<ClerkErrorBody>(`/v1/users?${query}`), { status: 422, body: { errors: [{ code: 'form_param_value_invalid', meta: { param_name: query.split('=')[0] } }] } }, query)
  }
})

t.test('starting_after walks every user once in either order of creation, and is refused with any other order.', async t => {
  const { clerk, clock, simulator, get, ids } = await setUp(t)
  const made = await people(clerk, clock, 7)
  const same = clock.now()
  for (let index = 0; index < 3; index++) made.push((await simulator.createUser({ createdAt: same })).id)
  for (const [order, expected] of [['', [...made].reverse()], ['&order_by=%2Bcreated_at', made], ['&order_by=created_at', made], ['&order_by=-created_at', [...made].reverse()]] as const) {
    const walked: string[] = []
    for (let page: string[] = ['']; page.length > 0;) {
      const cursor = walked.at(-1)
      page = await ids(`/v1/users?limit=3${order}${cursor === undefined ? '' : `&starting_after=${cursor}`}`)
      walked.push(...page)
    }
    t.strictSame(walked, expected, order)
  }
  t.equal((await get(`/v1/users?starting_after=${made[0]}&order_by=-updated_at`)).status, 422)
  t.equal((await get(`/v1/users?starting_after=${made[0]}&offset=1`)).status, 422)
  t.equal((await get('/v1/users?starting_after=user_nobody')).status, 404)
})

t.test('order_by knows updated_at, last_active_at and last_sign_in_at, both ways; only the first one counts.', async t => {
  const { clerk, clock, simulator, ids } = await setUp(t)
  const [a = '', b = '', c = ''] = await people(clerk, clock, 3)
  await simulator.updateUser(a, { firstName: 'Later' })
  t.strictSame(await ids('/v1/users?order_by=-updated_at'), [a, c, b])
  t.strictSame(await ids('/v1/users?order_by=updated_at&order_by=-created_at'), [b, c, a])
  await simulator.createSession(b)
  t.strictSame(await ids('/v1/users?order_by=-last_sign_in_at'), [b, c, a])
  clock.advance(86_400_000)
  await simulator.createSession(c)
  t.strictSame(await ids('/v1/users?order_by=%2Blast_active_at'), [a, b, c])
})

t.test('user_id asks for the users named, ignores unknown ones, and with a minus for everybody else.', async t => {
  const { clerk, clock, ids, get } = await setUp(t)
  const [a = '', b = '', c = ''] = await people(clerk, clock, 3)
  t.strictSame(await ids(`/v1/users?user_id=${a}&user_id=${c}&user_id=user_nobody`), [c, a])
  t.strictSame(await ids(`/v1/users?user_id=%2B${b}`), [b])
  t.strictSame(await ids(`/v1/users?user_id=-${b}`), [c, a])
  t.strictSame(await ids(`/v1/users?user_id=${a}&user_id=${b}&user_id=-${b}`), [a])
  t.strictSame(await ids('/v1/users?user_id=user_nobody'), [])
  const many = (count: number): string => Array.from({ length: count }, (_, index) => `user_id=user_${index}`).join('&')
  t.equal((await get(`/v1/users?${many(100)}&limit=100`)).status, 200)
  t.match(await get<ClerkErrorBody>(`/v1/users?${many(101)}`), { status: 422, body: { errors: [{ meta: { param_name: 'user_id' } }] } })
})

t.test('The other filters narrow by e-mail address, external id, username, text, ban and instants.', async t => {
  const { clock, simulator, ids } = await setUp(t)
  const a = (await simulator.createUser({ firstName: 'Ada', lastName: 'L', email: 'ada@example.test', otherEmails: ['x@example.test'], username: 'countess', externalId: 'e1' })).id
  clock.advance(1000)
  const b = (await simulator.createUser({ firstName: 'Bob', email: 'BOB@example.test', externalId: 'e2' })).id
  clock.advance(1000)
  const c = (await simulator.createUser({})).id
  await simulator.createSession(b)
  await simulator.banUser(b)
  for (const [query, expected] of [
    ['email_address=x@example.test&email_address=nobody@example.test', [a]],
    ['email_address=-x@example.test', []],
    ['external_id=e1&external_id=e9', [a]],
    ['external_id=-e1', [c, b]],
    ['username=countess', [a]],
    ['email_address_query=bob@', [b]],
    ['username_query=COUNT', [a]],
    ['name_query=ada%20l', [a]],
    ['query=bob', [b]],
    [`query=${c}`, [c]],
    ['banned=true', [b]],
    ['banned=false', [c, a]],
    [`created_at_before=${start + 1000}`, [a]],
    [`created_at_after=${start}`, [c, b]],
    [`last_sign_in_at_after=${start}`, [b]],
    [`last_sign_in_at_before=${start}`, []],
    [`last_active_at_since=${Date.UTC(2026, 0, 1)}`, [b]],
    [`last_active_at_after=${Date.UTC(2026, 0, 1)}`, []],
    ['no_such_parameter=1', [c, b, a]]
  ] as const) t.strictSame(await ids(`/v1/users?${query}`), expected, query)
})

t.test('A filter of Clerk that is not simulated is refused loudly.', async t => {
  const { get } = await setUp(t)
  t.match(await get<ClerkErrorBody>('/v1/users?organization_id=org_1'), { status: 501, body: { errors: [{ code: 'not_simulated' }] } })
  t.equal((await get('/v1/users?order_by=-first_name')).status, 501)
})

t.test('The count takes the same filters and no paging.', async t => {
  const { clerk, clock, get } = await setUp(t)
  const [a] = await people(clerk, clock, 12)
  t.strictSame((await get('/v1/users/count')).body, { object: 'total_count', total_count: 12 })
  t.strictSame((await get(`/v1/users/count?user_id=-${a}`)).body, { object: 'total_count', total_count: 11 })
})

t.test('Past the rate limit every users request is a 429 with Retry-After in seconds, until the window ends.', async t => {
  const { clock, get, simulator } = await setUp(t, { rateLimit: { maxRequests: 3, windowMs: 10_000 } })
  const user = await simulator.createUser()
  t.equal((await get('/v1/users', 'Bearer wrong')).status, 401, 'a refused key takes nothing from the instance')
  for (let index = 0; index < 2; index++) t.equal((await get('/v1/users')).status, 200)
  clock.advance(3500)
  t.equal((await get(`/v1/users/${user.id}`)).status, 200)
  t.match(await get<ClerkErrorBody>('/v1/users/count'), { status: 429, headers: { 'retry-after': '7' }, body: { errors: [{ code: 'too_many_requests' }] } })
  t.equal((await get('/v1/jwks')).status, 200, 'the keys are not limited')
  clock.advance(6499)
  t.match(await get('/v1/users'), { status: 429, headers: { 'retry-after': '1' } })
  clock.advance(1)
  t.equal((await get('/v1/users')).status, 200)
  t.strictSame(simulator.requestCounts, { 'GET /v1/users': 5, 'GET /v1/users/:id': 1, 'GET /v1/users/count': 1, 'GET /v1/jwks': 1 })
})

t.test('The limit is 1000 requests in 10 seconds unless told otherwise.', async t => {
  const { get } = await setUp(t)
  for (let index = 0; index < 1000; index++) {
    const { status } = await get('/v1/users/count')
    if (status !== 200) return t.fail(`request ${index + 1} was answered with ${status}`)
  }
  t.match(await get('/v1/users/count'), { status: 429, headers: { 'retry-after': '10' } })
})

t.test('Rows move while they are paged through: users are on two pages or on none, and the count disagrees.', async t => {
  const walk = async (seed: number, how: 'offset' | 'starting_after') => {
    const { clock, clerk, simulator, get, ids } = await setUp(t, { seed })
    const made = (await people(clerk, clock, 60)).reverse()
    const place = (id: string): number => made.indexOf(id)
    const put = { method: 'PUT', url: '/control/faults/users', payload: { kind: 'inconsistent' } } as const
    t.equal((await clerk.inject(put)).statusCode, 200)
    const seen: number[] = []
    for (let page = 0; page < 6; page++) {
      const from = how === 'offset' ? `offset=${page * 10}` : page === 0 ? '' : `starting_after=${made[page * 10 - 1]}`
      seen.push(...(await ids(`/v1/users?order_by=-created_at&limit=10&${from}`)).map(place))
    }
    const counted = (await get<{ total_count: number }>('/v1/users/count')).body.total_count
    const two = await ids(`/v1/users?user_id=${made[3]}&user_id=${made[40]}&limit=100`)
    t.strictSame(two, [made[3], made[40]], 'one page alone is right')
    t.equal((await get<ClerkUser>(`/v1/users/${made[40]}`)).body.id, made[40])
    simulator.faults.users.set(null)
    t.equal((await get<{ total_count: number }>('/v1/users/count')).body.total_count, 60)
    t.strictSame(await ids('/v1/users?limit=10&offset=10'), made.slice(10, 20), 'until the fault ends')
    const missing = made.filter((_, index) => !seen.includes(index)).length
    return { seen, counted, missing, twice: seen.length - new Set(seen).size }
  }
  for (const how of ['offset', 'starting_after'] as const) {
    const first = await walk(1, how)
    t.strictSame(first.seen.slice(0, 10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 'the first page is right')
    t.ok(first.missing > 0 && first.twice > 0, `${first.missing} on no page, ${first.twice} on two`)
    t.ok([59, 61].includes(first.counted), `${first.counted} are counted`)
    t.strictSame(await walk(1, how), first)
    t.notSame((await walk(2, how)).seen, first.seen)
  }
  const empty = await setUp(t)
  empty.simulator.faults.users.set({ kind: 'inconsistent' })
  t.equal((await empty.get<{ total_count: number }>('/v1/users/count')).body.total_count, 1, 'no count is below zero')
})

t.test('The users API is slow, hangs, answers 429, 500 or garbage, as told, and is right again afterwards.', async t => {
  const { clerk, simulator } = await setUp(t)
  const { id } = await simulator.createUser()
  const origin = await clerk.listen({ port: 0, host: '127.0.0.1' })
  const headers = { authorization: `Bearer ${simulator.secretKey}` }
  const ask = async (path: string): Promise<Response> => {
    return await fetch(`${origin}/v1${path}`, { headers, signal: AbortSignal.timeout(300) })
  }
  for (const path of ['/users', '/users/count', `/users/${id}`]) {
    simulator.faults.users.set({ kind: 'status', status: 429, retryAfterSeconds: 3 })
    const limited = await ask(path)
    t.strictSame([limited.status, limited.headers.get('retry-after')], [429, '3'], path)
    simulator.faults.users.set({ kind: 'status', status: 500 })
    t.equal((await ask(path)).status, 500)
    simulator.faults.users.set({ kind: 'garbage' })
    await t.rejects((await ask(path)).json(), { name: 'SyntaxError' })
    simulator.faults.users.set({ kind: 'hang' })
    await t.rejects(ask(path), { name: 'TimeoutError' })
    simulator.faults.users.set({ kind: 'slow', delayMs: 60 })
    const startedAt = performance.now()
    t.equal((await ask(path)).status, 200)
    t.ok(performance.now() - startedAt >= 55, 'late')
    simulator.faults.users.set(null)
    t.equal((await ask(path)).status, 200)
  }
})
