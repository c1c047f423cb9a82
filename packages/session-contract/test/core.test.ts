import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeCertificate, ManualClock } from '@orientor/test-kit'
import { expectTypeOf } from 'expect-type'
import t from 'tap'
import {
  callable, compileRouteSession, createIdentity, databaseFailureOf, deepFreeze, defaultRouteSession, describe, durationMs, exactJson, flag, integer, isOutage,
  clockObject, isPlanOutdated, isRevoked, listOf, objectWith, oneOf, optional, outcomeOf, parseProviderTimestamp, pause, quotedName, ratio, readConnection, readOptions, rule, secretText, sessionKey, sessionKeyHash,
  sourceFailureOf, SourceUnavailable, splitSessionKey, startDeadline, sqlLiteral, StatementNames, systemClock, text, userOutcome, withDefault, withdrawalOf, Withdrawals, withinDeadline,
  type ActiveRecord, type ContractErrorCode, type SessionOutcome, type SessionUser
} from '../src/core.js'

const issuer = 'https://clerk.example.com'

t.test('a session key joins issuer and subject exactly, and splits at the first space', async t => {
  const key = sessionKey(issuer, 'auth0|a b')
  t.equal(key, `${issuer} auth0|a b`)
  t.strictSame(splitSessionKey(key), { issuer, subject: 'auth0|a b' })
  t.not(sessionKey(issuer, 'User'), sessionKey(issuer, 'user'), 'case is kept')
})

t.test('a session key hash is the SHA-256 of the key in hexadecimal', async t => {
  const key = sessionKey(issuer, 'user_é')
  t.equal(sessionKeyHash(key), createHash('sha256').update(Buffer.from(`${issuer} user_é`, 'utf8')).digest('hex'))
})

t.test('issuers and subjects that cannot name a user are refused without being repeated', async t => {
  const subjects: unknown[] = ['', 'a\0b', '\ud800', 'x'.repeat(256), 'é'.repeat(128), 7, null, undefined, {}]
  for (const subject of subjects) t.throws(() => sessionKey(issuer, subject as string), { code: 'ORI_CONTRACT_INVALID_SESSION_KEY' }, JSON.stringify(subject)?.slice(0, 20))
  for (const bad of ['', 'https://a b', 'a\tb', 'a\u0007', '\udc00', 5]) t.throws(() => sessionKey(bad as string, 'x'), { code: 'ORI_CONTRACT_INVALID_SESSION_KEY' })
  t.doesNotThrow(() => sessionKey(issuer, 'x'.repeat(255)))
  t.doesNotThrow(() => sessionKey(issuer, '__proto__'))
  const canary = 'canary\0canary'
  try {
    sessionKey(issuer, canary)
  } catch (error) {
    t.notMatch((error as Error).message, /canary/)
  }
})

t.test('an identity is frozen but for its memo, and its claims are frozen all the way down', async t => {
  const identity = createIdentity({ issuer, subject: 'u', claims: { roles: ['a', { deep: 1 }] } })
  t.ok(Object.isFrozen(identity))
  t.throws(() => { (identity.claims['roles'] as string[]).push('admin') }, TypeError)
  t.throws(() => { Object.assign((identity.claims['roles'] as object[])[1]!, { deep: 2 }) }, TypeError)
  identity.memo.entry = 1
  t.match(identity, { kind: 'identity', sessionId: null, issuedAtMs: null, providerUpdatedAt: null })
  const full = createIdentity({ issuer, subject: 'u', sessionId: 's', issuedAtMs: 1, providerUpdatedAt: 2 })
  t.match(full, { sessionId: 's', issuedAtMs: 1, providerUpdatedAt: 2, claims: {} })
})

t.test('deepFreeze remembers nothing: what it froze it walks again', async t => {
  let walks = 0
  const counted = new Proxy({ inner: {} }, { ownKeys (target) { walks++; return Reflect.ownKeys(target) } })
  deepFreeze(counted)
  const once = walks
  deepFreeze([counted])
  t.equal(walks, 2 * once)
})

t.test('deepFreeze leaves values that are not plain trees alone', async t => {
  const date = new Date(0)
  const tree = deepFreeze({ date, none: null, list: [1], bare: Object.create(null) as object })
  t.ok(Object.isFrozen(tree.list) && Object.isFrozen(tree.bare))
  t.notOk(Object.isFrozen(date))
  t.equal(deepFreeze(5), 5)
  const shallow = deepFreeze(Object.freeze({ inner: { open: true } }))
  t.ok(Object.isFrozen(shallow.inner), 'also below what was frozen before')
  const ring: { self?: unknown } = {}
  ring.self = ring
  t.equal(deepFreeze(ring).self, ring)
})

const record: ActiveRecord = {
  kind: 'active',
  user: deepFreeze({ userId: '1', issuer, subject: 'u', email: null, firstName: null, lastName: null, isActive: true, onboardingCompleted: false, providerUpdatedAt: null, profile: null }),
  revision: 1,
  sync: 'skipped',
  lastSyncedAtMs: 5,
  tokensValidFromMs: 0,
  revokedSessions: []
}

t.test('outcomeOf maps every record to one outcome', async t => {
  const identity = createIdentity({ issuer, subject: 'u', sessionId: 's1', issuedAtMs: 10_000 })
  const outcome = outcomeOf(record, identity, 'source', 77)
  t.strictSame(outcome, { kind: 'user', user: { ...record.user, extra: {} }, stale: false, from: 'source', cachedAtMs: 77, dbSynced: true, lastSyncedAtMs: 5 })
  t.ok(Object.isFrozen(outcome) && outcome.kind === 'user' && Object.isFrozen(outcome.user) && Object.isFrozen(outcome.user.extra))
  const more: ActiveRecord = { ...record, user: deepFreeze({ ...record.user, extra: { plan: 'pro' } }) }
  t.equal(userOutcome(more, 'cache', 1, false).user, more.user, 'a user that is complete is taken as it is')
  t.match(outcomeOf({ ...record, sync: 'failed' }, identity, 'cache', 1), { dbSynced: false, from: 'cache' })
  t.strictSame(outcomeOf({ kind: 'inactive', revision: 1 }, identity, 'source', 1), { kind: 'forbidden', reason: 'inactive' })
  for (const kind of ['deleted', 'unknown'] as const) t.match(outcomeOf({ kind, revision: 1 }, identity, 'source', 1), { kind: 'refused', error: 'invalid_token' })
  t.equal(userOutcome(record, 'cache', 1, true).stale, true)
})

t.test('a token issued in or before the second from which tokens count is revoked', async t => {
  const issued = (issuedAtMs: number | null, sessionId: string | null = null) => createIdentity({ issuer, subject: 'u', issuedAtMs, sessionId })
  const cut = { ...record, tokensValidFromMs: 10_500 }
  t.equal(isRevoked(cut, issued(10_999)), true, 'the same second')
  t.equal(isRevoked(cut, issued(9_999)), true)
  t.equal(isRevoked(cut, issued(11_000)), false)
  t.equal(isRevoked(cut, issued(null)), true, 'a token that does not tell its age cannot be trusted after a revocation')
  t.equal(isRevoked(record, issued(null)), false)
  t.equal(isRevoked({ ...record, revokedSessions: ['s1'] }, issued(1, 's1')), true)
  t.equal(isRevoked({ ...record, revokedSessions: ['s1'] }, issued(1, 's2')), false)
  t.equal(isRevoked({ ...record, revokedSessions: ['s1'] }, issued(1)), false)
  t.match(outcomeOf({ ...record, revokedSessions: ['s1'] }, issued(1, 's1'), 'cache', 1), { kind: 'refused', error: 'invalid_token' })
})

t.test('SourceUnavailable is recognised across copies of the package, and nothing else is', async t => {
  const cause = new Error('down')
  const error = new SourceUnavailable('no database', { retryAfterMs: 5, cause })
  t.match(error, { code: 'ORI_SOURCE_UNAVAILABLE', retryAfterMs: 5, cause, name: 'SourceUnavailable' })
  t.equal(new SourceUnavailable('x').retryAfterMs, 1000)
  const foreign = Object.defineProperty(new Error('copy'), Symbol.for('@orientor/session-contract/source-unavailable'), { value: true })
  t.ok(error instanceof SourceUnavailable && foreign instanceof SourceUnavailable)
  for (const other of [new Error('x'), null, 'x']) t.notOk((other as unknown) instanceof SourceUnavailable)
})

t.test('a deadline aborts at its instant, and not once released', async t => {
  const clock = new ManualClock()
  const deadline = startDeadline(clock, 100)
  t.equal(deadline.atMs, clock.monotonic() + 100)
  clock.advance(99)
  t.notOk(deadline.signal.aborted)
  clock.advance(1)
  t.equal((deadline.signal.reason as Error).name, 'TimeoutError')
  const released = startDeadline(clock, 100)
  released.release()
  clock.advance(1000)
  t.notOk(released.signal.aborted)
})

t.test('waiting', t => {
  t.test('work that is done in time is answered, and leaves no listener behind', async t => {
    const deadline = startDeadline(new ManualClock(), 100)
    t.equal(await withinDeadline(Promise.resolve(7), deadline, 'It'), 7)
    await t.rejects(withinDeadline(Promise.reject(new Error('no')), deadline, 'It'), /no/)
  })
  t.test('work that is not done in time is unavailable, and its end is ignored', async t => {
    const clock = new ManualClock()
    let refuse = (_error: Error): void => {}
    const work = new Promise((_resolve, reject) => { refuse = reject })
    const waiting = withinDeadline(work, startDeadline(clock, 100), 'It')
    clock.advance(100)
    await t.rejects(waiting, SourceUnavailable)
    refuse(new Error('late'))
    await clock.settle()
    await t.rejects(withinDeadline(new Promise(() => {}), { atMs: 0, signal: AbortSignal.abort() }, 'It'), /It did not answer in time/)
  })
  t.test('a pause ends by its time or by the signal', async t => {
    const clock = new ManualClock()
    const controller = new AbortController()
    const first = pause(clock, 50, controller.signal)
    clock.advance(50)
    await first
    const second = pause(clock, 50, controller.signal)
    controller.abort()
    await second
    await pause(clock, 50, controller.signal)
    t.equal(clock.pendingTimers, 0)
  })
  t.end()
})

t.test('the system clock tells the time of this process', async t => {
  t.ok(Math.abs(systemClock.now() - Date.now()) < 1000)
  t.ok(systemClock.monotonic() <= performance.now())
  systemClock.setTimer(() => { t.fail('cancelled') }, 1).cancel()
  await new Promise<void>(resolve => { setTimeout(resolve, 60_000).unref(); systemClock.setTimer(resolve, 0); setTimeout(() => {}, 50) })
})

const micro = (text: string): number => Date.parse(`${text.slice(0, 23)}Z`)
const instants: ReadonlyArray<readonly [unknown, string | null]> = [
  [1749982830, '2025-06-15T10:20:30.000'], [1749982830.25, '2025-06-15T10:20:30.250'], [1749982830123, '2025-06-15T10:20:30.123'],
  ['1749982830', '2025-06-15T10:20:30.000'], ['1749982830123', '2025-06-15T10:20:30.123'], ['1749982830.5', '2025-06-15T10:20:30.500'],
  [1749982830123456, '2025-06-15T10:20:30.123'], [31536000000, null], [12345678901, null], [0, null], [-1749982830, null], [NaN, null], [Infinity, null],
  [20250615102030, null], [20250615, null], [638855796300000000, null], [133944204300000000, null],
  ['2025-06-15T10:20:30Z', '2025-06-15T10:20:30.000'], ['2025-06-15T10:20:30.5Z', '2025-06-15T10:20:30.500'], ['2025-06-15T10:20:30.123Z', '2025-06-15T10:20:30.123'],
  ['2025-06-15T10:20:30.123456Z', '2025-06-15T10:20:30.123'], ['2025-06-15T10:20:30.1239999Z', '2025-06-15T10:20:30.123'],
  ['2025-06-15T10:20:30+00:00', '2025-06-15T10:20:30.000'], ['2025-06-15T12:20:30+02:00', '2025-06-15T10:20:30.000'], ['2025-06-15T02:20:30-08:00', '2025-06-15T10:20:30.000'],
  ['2025-06-15 10:20:30.123456+00', '2025-06-15T10:20:30.123'], ['2025-06-15t10:20:30z', '2025-06-15T10:20:30.000'], ['2025-06-15T10:20:30+0200', '2025-06-15T08:20:30.000'],
  ['2025-06-15T10:20:30', null], ['2025-06-15', null], ['2025-06-15T10:20Z', null], ['2025-02-29T10:20:30Z', null], ['2024-02-29T10:20:30Z', '2024-02-29T10:20:30.000'],
  ['2025-06-31T10:20:30Z', null], ['2025-06-15T24:00:00Z', null], ['2025-06-15T10:20:60Z', null], ['+012025-06-15T10:20:30Z', null], ['9999-12-31T23:59:59Z', null],
  ['0001-01-01T00:00:00Z', null], ['1970-01-01T00:00:00Z', null], ['2025', null], ['-1', null], ['', null], ['Z', null], ['now', null], ['infinity', null], ['1.749e9', null],
  ['0x6850', null], ['Sun, 15 Jun 2025 10:20:30 GMT', null], ['06/15/2025', null], ['2025-06-15T10:20:30Z\u0000', null], [null, null], [true, null], [[], null],
  [[1749982830], null], [{}, null], ['2025-06-15T10:20:30+25:00', null],
  // beyond the table: nanoseconds exactly, the edges of the window, dates, long input, bad minutes
  ['1749982830123456789', '2025-06-15T10:20:30.123'], [1749982830123456789n, null], ['946684800', '2000-01-01T00:00:00.000'], ['946684799', null], [7258118399, '2199-12-31T23:59:59.000'],
  [7258118400, null], [new Date('2025-06-15T10:20:30.123Z'), '2025-06-15T10:20:30.123'], [new Date(NaN), null], [`2025-06-15T10:20:30Z${' '.repeat(60)}`, null],
  ['2025-06-15T10:60:30Z', null], ['2025-06-15T10:20:30+02:60', null], ['2025-13-15T10:20:30Z', null], ['１749982830', null], ['1', null]
]

t.test('provider timestamps are read by the exact rules, and never by the time zone of the machine', async t => {
  for (const [input, expected] of instants) {
    t.equal(parseProviderTimestamp(input), expected === null ? null : micro(expected), typeof input === 'bigint' ? 'a bigint' : JSON.stringify(input) ?? 'undefined')
  }
  const entry = import.meta.resolve('@orientor/session-contract/core')
  const ask = `import { parseProviderTimestamp as p } from ${JSON.stringify(entry)}; console.log(JSON.stringify([p('2025-06-15T10:20:30Z'), p('2025-06-15T10:20:30'), p(1749982830)]))`
  for (const TZ of ['America/New_York', 'Asia/Kathmandu', 'UTC']) {
    const answer = execFileSync(process.execPath, ['--input-type=module', '-e', ask], { env: { ...process.env, TZ }, encoding: 'utf8' })
    t.equal(answer.trim(), '[1749982830000,null,1749982830000]', TZ)
  }
})

t.test('provider timestamps order as instants do', async t => {
  const at = (value: unknown): number => parseProviderTimestamp(value)!
  t.notOk(at(1710784199) > at('2024-03-18T17:49:59.431Z'), 'whole seconds of the same second are not newer')
  t.ok(at(1710784200) > at('2024-03-18T17:49:59.431Z'))
  t.notOk(at('2024-03-18T17:49:59.431999Z') > at('2024-03-18T17:49:59.431Z'), 'microseconds that came back as milliseconds are not newer')
  t.ok(at('2024-01-02T05:00:00+02:00') < at('2024-01-02T03:30:00Z'))
})

const failed = (fields: object): Error => Object.assign(new Error('x'), fields)

t.test('failures of the database fall into the classes of what may be done about them', async t => {
  const classes = {
    unsent: ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', '57P03', '53300', '08001', '08004'],
    severed: ['57P01', '57P02', '25P03', '57P05', '08003', '08006', '08007', 'ECONNRESET', 'EPIPE'],
    aborted: ['40001', '40P01', '55P03', '57014'],
    outdated: ['26000', '42P05'],
    demoted: ['25006'],
    exhausted: ['53100', '53200', '58030', '53400'],
    withdrawn: ['ERR_TLS_CERT_ALTNAME_INVALID', 'CERT_HAS_EXPIRED', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED'],
    rejected: ['22001', '22P02', '23505', '42P01', '42501', '42703', '3F000', '42601', '28P01', '3D000', '55000', '55006', '08P01', '0A000'],
    unknown: ['XX000', 'EWEIRD', 'P0001']
  }
  for (const [failure, codes] of Object.entries(classes)) for (const code of codes) t.equal(databaseFailureOf(failed({ code })), failure, code)
  t.equal(databaseFailureOf(new Error('timeout exceeded when trying to connect')), 'unsent')
  t.equal(databaseFailureOf(new Error('Connection terminated unexpectedly')), 'severed')
  t.equal(databaseFailureOf(new Error('Query read timeout')), 'severed')
  t.equal(databaseFailureOf(new Error('The server does not support SSL connections')), 'withdrawn')
  t.equal(databaseFailureOf({ databaseFailure: 'severed', code: '23505' }), 'severed', 'whoever knows better says so')
  for (const other of [null, 'ECONNREFUSED', {}, new Error('boom'), { databaseFailure: 'nonsense' }]) t.equal(databaseFailureOf(other), 'unknown')
  t.strictSame((['unsent', 'severed', 'demoted', 'exhausted', 'withdrawn', 'aborted', 'outdated', 'rejected', 'unknown'] as const).map(isOutage), [true, true, true, true, true, false, false, false, false])
})

t.test('what PostgreSQL refuses is withdrawn where a session begins, and of a source\'s own statements; everything else of the same codes is a defect', async t => {
  const session = (code: string, more: object = {}): Error => failed({ code, severity: 'FATAL', file: 'postinit.c', ...more })
  for (const code of ['28000', '28P01', '3D000', '55000', '42501']) {
    t.equal(databaseFailureOf(session(code)), 'withdrawn', code)
    t.equal(databaseFailureOf(session(code, { severity: 'ВАЖНО' })), 'withdrawn', `${code}: a server that speaks another language`)
    t.equal(databaseFailureOf(session(code, { file: undefined })), 'withdrawn', `${code}: a pooler, which names no file`)
  }
  for (const code of ['22023', '42704', '55006']) t.equal(databaseFailureOf(session(code)), 'rejected', `${code}: a setting that is wrong`)

  const statement = (code: string, more: object = {}): Error => failed({ code, severity: 'ERROR', file: 'parse_relation.c', ...more })
  for (const code of ['42501', '42P01', '42703', '3F000']) {
    t.equal(databaseFailureOf(statement(code), 'own'), 'withdrawn', code)
    t.equal(databaseFailureOf(statement(code)), 'rejected', `${code}: of the app`)
    t.equal(databaseFailureOf(statement(code, { where: 'PL/pgSQL function audit() line 1 at PERFORM' }), 'own'), 'rejected', `${code}: in a trigger of the app`)
  }
  for (const code of ['28000', '28P01', '3D000', '55000', '42601', '42883', '42804', '22P02', '22P05', '55006']) t.equal(databaseFailureOf(statement(code), 'own'), 'rejected', code)
})

t.test('a pooler that ends a client says nothing about the statement, unless it was for the startup parameters', async t => {
  t.equal(databaseFailureOf(failed({ code: '08P01', severity: 'FATAL', message: 'server login has been failing, try again later' })), 'severed')
  t.equal(databaseFailureOf(failed({ code: '08P01', severity: 'FATAL', message: 'unsupported startup parameter: statement_timeout' })), 'rejected')
  t.equal(databaseFailureOf(failed({ code: '08P01', severity: 'FATAL', file: 'postgres.c' })), 'rejected', 'PostgreSQL itself')
})

/** What a server says of the parameters of a statement, in the languages that PostgreSQL 15 has it translated to in ways that differ. */
const listed: Readonly<Record<string, (list: string) => string>> = {
  English: list => `unnamed portal with parameters: ${list}`,
  German: list => `unbenanntes Portal mit Parametern: ${list}`,
  Spanish: list => `portal sin nombre con parámetros: ${list}`,
  French: list => `portail non nommé avec les paramètres : « ${list} »`,
  Japanese: list => `パラメータを持つ無名ポータル: ${list}`,
  Korean: list => `이름 없는 포탈의 매개 변수: ${list}`,
  'a named portal': list => `portal "C_1" with parameters: ${list}`
}
const lists = ["$1 = 'user_1'", "$1 = NULL, $2 = '{a,b}'", "$1 = 'it''s, $2 = no', $2 = NULL", "$1 = 'two\nlines: PL/pgSQL function f() line 1', $2 = 'cut...'", `$1 = '${'x\n'.repeat(2_000_000)}'`]

t.test('a server that adds the parameters to its errors changes nothing about what they are, in any language', async t => {
  for (const [language, words] of Object.entries(listed)) {
    for (const list of lists) {
      const where = words(list)
      const shown = `${language}: ${list.slice(0, 60)}`
      t.equal(databaseFailureOf(failed({ code: '0A000', routine: 'RevalidateCachedQuery', where })), 'outdated', shown)
      for (const code of ['42501', '42P01', '42703', '3F000']) t.equal(databaseFailureOf(failed({ code, where }), 'own'), 'withdrawn', shown)
      for (const code of ['42883', '42804']) t.ok(isPlanOutdated(failed({ code, where })), shown)
      for (const inner of ['PL/pgSQL function audit() line 1 at PERFORM', 'SQL statement "SELECT a FROM t WHERE $1 = \'x\'"\nPL/pgSQL function f() line 3 at SQL statement', 'SQL-Anweisung »SELECT $1 = NULL«\nPL/pgSQL-Funktion f() Zeile 3', 'SQL function "f" during inlining']) {
        t.equal(databaseFailureOf(failed({ code: '42501', where: `${inner}\n${where}` }), 'own'), 'rejected', `${inner} ${shown}`)
        t.notOk(isPlanOutdated(failed({ code: '42883', where: `${inner}\n${where}` })))
      }
    }
  }
})

t.test('a plan that does not fit any more is told by what PostgreSQL says in any language, and only of the statement itself', async t => {
  const changed = { code: '0A000', severity: 'ERROR', message: 'cached plan must not change result type', routine: 'RevalidateCachedQuery' }
  for (const error of [changed, { ...changed, message: 'zwischengespeicherter Plan darf den Ergebnistyp nicht ändern' }, { ...changed, routine: undefined }, { code: '26000' }, { code: '42P05' }]) {
    t.equal(databaseFailureOf(failed(error)), 'outdated')
    t.ok(isPlanOutdated(failed(error)))
  }
  const others = [{ ...changed, where: 'PL/pgSQL function f() line 1 at EXECUTE' }, { code: '0A000', message: 'not supported', routine: 'other' }, { code: '42P01' }, { code: '23505' }, { code: '42883', where: 'in f()' }]
  for (const error of others) t.notOk(isPlanOutdated(failed(error)), JSON.stringify(error))
  for (const code of ['42883', '42804']) {
    t.ok(isPlanOutdated(failed({ code })), 'the types of its parameters were settled before')
    t.equal(databaseFailureOf(failed({ code })), 'rejected', 'sent without a name it is a defect')
  }
  t.notOk(isPlanOutdated(null))
})

t.test('a statement goes under its name, once more without when its plan is outdated, and without any from the first sign of a pooler on', async t => {
  const sent: Array<string | undefined> = []
  const failures: object[] = []
  const send = async ({ name }: { readonly name?: string }): Promise<string> => {
    sent.push(name)
    const failure = failures.shift()
    if (failure !== undefined) throw failed(failure)
    return 'rows'
  }
  const names = new StatementNames()
  const sendAfter = async (...fail: object[]): Promise<unknown> => {
    failures.push(...fail)
    return await names.send('find', send).catch((error: { code: string }) => error.code)
  }
  const changed = { code: '0A000', routine: 'RevalidateCachedQuery' }
  t.strictSame([await sendAfter(changed), sent.splice(0)], ['rows', ['find', undefined]])
  t.strictSame([await sendAfter(changed, { code: '42P01' }), sent.splice(0)], ['42P01', ['find', undefined]])
  t.strictSame([await sendAfter({ code: '42883' }), sent.splice(0)], ['42883', ['find']], 'which was never prepared')
  t.strictSame([await sendAfter(), sent.splice(0)], ['rows', ['find']])
  for (const code of ['42883', '42804']) t.strictSame([await sendAfter({ code }, { code }), sent.splice(0)], [code, ['find', undefined]], 'which was')
  t.strictSame([await names.send('other', send), await names.send('other', send), sent.splice(0)], ['rows', 'rows', ['other', 'other']])
  failures.push({ code: '42883' })
  t.strictSame([await names.send('third', send).catch((error: { code: string }) => error.code), sent.splice(0)], ['42883', ['third']], 'whatever others were')
  t.strictSame([await sendAfter({ code: '23505' }), sent.splice(0)], ['23505', ['find']])
  t.strictSame([await sendAfter({ code: '26000' }), sent.splice(0)], ['rows', ['find', undefined]])
  t.strictSame([await sendAfter(), sent.splice(0)], ['rows', [undefined]])
})

t.test('a refusal is told in words: its code, what is refused, what to do; also when it is the cause of the failure', async t => {
  const session = { severity: 'FATAL', file: 'auth.c' }
  const refusals: ReadonlyArray<readonly [object, 'any' | 'own', string, RegExp, RegExp]> = [
    [{ code: '28P01', ...session }, 'any', '28P01', /password/, /ALTER ROLE … PASSWORD/],
    [{ code: '28000', ...session }, 'any', '28000', /may not log in/, /LOGIN.*pg_hba/],
    [{ code: '28ABC', ...session }, 'any', '28ABC', /may not log in/, /LOGIN/],
    [{ code: '3D000', ...session }, 'any', '3D000', /database does not exist/, /Create it/],
    [{ code: '55000', ...session }, 'any', '55000', /no connections/, /ALLOW_CONNECTIONS/],
    [{ code: '42501', ...session }, 'own', '42501', /may not connect/, /GRANT CONNECT/],
    [{ code: '42501' }, 'own', '42501', /lacks a privilege/, /GRANT/],
    [{ code: '42P01' }, 'own', '42P01', /a table/, /migrations/],
    [{ code: '42703' }, 'own', '42703', /a column/, /name/],
    [{ code: '3F000' }, 'own', '3F000', /a schema/, /name/],
    [{ code: 'CERT_HAS_EXPIRED' }, 'any', 'CERT_HAS_EXPIRED', /certificate/, /sslrootcert/],
    [{ message: 'The server does not support SSL connections' }, 'any', 'TLS', /no TLS/, /sslmode=disable/],
    [{ message: 'SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string' }, 'any', 'SASL', /a password is wanted/, /function/],
    [{ message: 'SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a non-empty string' }, 'any', 'SASL', /a password is wanted/, /function/],
    [{ message: 'SASL: SCRAM-SERVER-FINAL-MESSAGE: server signature does not match' }, 'any', 'SASL', /did not prove that it knows the password/, /another server/],
    [{ message: 'SASL: SCRAM-SERVER-FINAL-MESSAGE: server signature is missing' }, 'any', 'SASL', /did not prove/, /another server/],
    [{ message: 'SASL: SCRAM-SERVER-FIRST-MESSAGE: server nonce does not start with client nonce' }, 'any', 'SASL', /did not prove/, /another server/],
    [{ message: 'SASL: Only mechanism(s) SCRAM-SHA-256 are supported' }, 'any', 'SASL', /no way to log in that node-postgres takes/, /scram-sha-256/],
    [{ message: 'SASL: SCRAM-SERVER-FIRST-MESSAGE: iteration count 900000 exceeds scramMaxIterations of 100000' }, 'any', 'SASL', /broke the rules/, /cause/]
  ]
  for (const [fields, author, code, reason, remedy] of refusals) {
    t.match(withdrawalOf(failed(fields), author), { code, reason, remedy }, code)
    t.match(withdrawalOf(new Error('no connection', { cause: failed(fields) }), author), { code, reason })
  }
  const circular = failed({})
  Object.assign(circular, { cause: circular })
  for (const error of [null, circular, failed({ code: '42P01' }), failed({ code: 'ECONNREFUSED' })]) t.equal(withdrawalOf(error), null)
})

t.test('a source answers SourceUnavailable where its database is not to be had, and judges every other failure itself', async t => {
  const refused = failed({ code: '42P01' })
  t.match(sourceFailureOf(refused), { code: 'ORI_SOURCE_UNAVAILABLE', message: 'PostgreSQL refuses: a table is not there, or not on the search path (42P01)', cause: refused })
  t.match(sourceFailureOf(failed({ code: 'ECONNRESET' })), { message: 'The database cannot be reached' })
  const late = new SourceUnavailable('late')
  t.equal(sourceFailureOf(late), late)
  for (const code of ['23505', '42601', '40001', '0A000']) t.equal(sourceFailureOf(failed({ code })), null)
})

t.test('a refusal is logged when it begins, once a minute while it lasts, and when it is over, whatever the number of requests', async t => {
  const clock = new ManualClock()
  const lines: string[] = []
  const withdrawals = new Withdrawals('source', {
    error: (details, message) => { lines.push(`error ${JSON.stringify(details)} ${message}`) },
    info: (_details, message) => { lines.push(`info ${message}`) }
  }, clock)
  const said = (): string[] => lines.splice(0)
  withdrawals.failed('reading', failed({ code: '23505' }))
  withdrawals.answered('reading')
  t.strictSame(said(), [])
  for (let request = 0; request < 100; request++) withdrawals.failed('reading', failed({ code: '42501' }))
  withdrawals.failed('writing', failed({ code: '42P01' }))
  t.match(said(), [
    /^error .*"code":"42501".* source: PostgreSQL refuses reading: the role lacks a privilege \(42501\)\. A cache in front serves the users it knows, marked stale\. GRANT/,
    /^error .* PostgreSQL refuses writing: .*\(42P01\)/
  ])
  t.match(withdrawals.of('reading'), { code: '42501' })
  clock.advance(59_999)
  withdrawals.failed('reading', failed({ code: '42501' }))
  t.strictSame(said(), [])
  clock.advance(1)
  withdrawals.failed('reading', failed({ code: '42501' }))
  t.equal(said().length, 1)
  for (let request = 0; request < 100; request++) {
    withdrawals.answered('reading')
    withdrawals.failed('reading', failed({ code: '42501' }))
  }
  t.match(said(), ['info source: PostgreSQL does not refuse reading any more'], 'what comes and goes is not told each time')
  t.ok(withdrawals.of('reading') !== null && withdrawals.of('writing') !== null)
  withdrawals.answered('writing')
  t.equal(withdrawals.of('writing'), null)
})

/** A connection string as node-postgres parses it, as far as the tests go; with its files, and with a default for each part. */
function parsed (text: string): object {
  const { username, password, hostname, port, pathname, searchParams } = new URL(text)
  const query = Object.fromEntries(searchParams)
  if (query['sslnegotiation'] === 'odd') throw new Error('Invalid sslnegotiation value: "odd".')
  const read = (name: string): object => query[name] === undefined ? {} : { [{ sslrootcert: 'ca', sslcert: 'cert', sslkey: 'key' }[name]!]: readFileSync(query[name]!, 'utf8') }
  const ssl = query['sslmode'] === 'disable' ? false : searchParams.size > 0 ? { ...read('sslrootcert'), ...read('sslcert'), ...read('sslkey'), mode: query['sslmode'] } : undefined
  return { user: username, password, host: hostname, port: Number(port || 5432), database: pathname.slice(1) || username, ssl, sslnegotiation: query['sslnegotiation'], options: query['options'], statement_timeout: false, other: 1 }
}

t.test('of a configuration with a connection string, what stands beside the string counts, and the rest comes from it', async t => {
  const read = (given: object) => readConnection({ ...given }, parsed)
  t.strictSame(read({ host: 'h', ssl: undefined }), { kind: 'read', config: { host: 'h' }, advice: null })
  const connectionString = 'postgres://u:p@h:1/d'
  const whole = { user: 'u', password: 'p', host: 'h', port: 1, database: 'd', statement_timeout: false }
  t.strictSame(read({ connectionString }), { kind: 'read', config: whole, advice: null })
  const password = async (): Promise<string> => 'token'
  const beside = { password, user: 'v', ssl: { ca: 'x' }, keepAlive: false, host: undefined }
  t.strictSame(read({ connectionString, ...beside }), { kind: 'read', config: { ...whole, password, user: 'v', ssl: { ca: 'x' }, keepAlive: false }, advice: null })
  t.match(read({ connectionString: 'postgres://u:p@h', user: 'v' }), { config: { user: 'v', database: undefined } }, 'a database that is called as the user')
  t.match(read({ connectionString: 'postgres://u:p@h', user: 'v', database: 'e' }), { config: { database: 'e' } })
  t.match(read({ connectionString: `${connectionString}?sslmode=require`, ssl: false }), { config: { ssl: false } })
  for (const query of ['sslrootcert=system', 'sslmode=require&sslrootcert=system', 'sslrootcert=system&sslmode=verify-full&options=-c%20x%3D1']) {
    t.match(read({ connectionString: `${connectionString}?${query}` }), { config: { ssl: { mode: 'verify-full', ca: undefined } } }, query)
  }
  t.match(read({ connectionString: `${connectionString}?schema=app` }), { advice: /"schema", which Prisma reads.*options=-c%20search_path%3Dapp/ })
  t.match(read({ connectionString: `${connectionString}?schema=public` }), { advice: null })
})

t.test('a connection string that cannot be used is refused in words that do not show it', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'orientor-contract-'))
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  const [one, two] = [makeCertificate({ commonName: 'one' }), makeCertificate({ commonName: 'two' })]
  for (const [name, content] of Object.entries({ 'one.pem': one.certificate, 'one.key': one.key, 'two.key': two.key, 'text.pem': 'x' })) writeFileSync(join(folder, name), content)
  const path = (name: string): string => join(folder, name)
  const at = 'postgres://u:hunter2@h/d'
  const flaws: ReadonlyArray<readonly [string, object, RegExp]> = [
    ['mysql://u:hunter2@h/d', {}, /^does not begin with/],
    ['postgres://u:hun#ter2@h/d', {}, /^has a bare "#"/],
    ['postgres://u:hun%ter2@h d/d', {}, /^cannot be parsed\. Special characters/],
    ['postgres://u:hunter2@h1:1,h2:2/d', {}, /^names several hosts/],
    [`${at}?host=h1,h2`, {}, /^names several hosts/],
    [`${at}?sslrootcert=system&sslmode=disable`, {}, /^has sslrootcert=system and sslmode=disable, which exclude each other/],
    [`${at}?sslnegotiation=direct`, { ssl: false }, /^has sslnegotiation=direct, and "ssl" beside it is false: they exclude each other/],
    [`${at}?sslnegotiation=odd`, {}, /^is refused by node-postgres: Invalid sslnegotiation value: "odd"\.$/],
    [`${at}?sslrootcert=${path('none')}`, {}, /^names a file that cannot be read: sslrootcert=.*none \(ENOENT\)/],
    [`${at}?sslrootcert=${path('text.pem')}`, {}, /^names a file that holds no certificate: sslrootcert=.*text\.pem/],
    [`${at}?sslcert=${path('one.pem')}&sslkey=${path('two.key')}`, {}, /^names a certificate and a key that cannot be used/]
  ]
  for (const [connectionString, beside, flaw] of flaws) {
    const reading = readConnection({ connectionString, ...beside }, parsed)
    t.match(reading, { kind: 'refused', flaw }, String(flaw))
    t.notMatch(JSON.stringify(reading), /hun[#%]?ter2/)
  }
  const passwords: ReadonlyArray<readonly [string, RegExp]> = [
    ['postgres://u:hunter2?sslrootcert=hunter2@h/d', /^names a file that cannot be read: sslrootcert, whose value is not shown because of the "@" after it: .*"\?" as %3F/],
    ['postgres://u:pa@hu?sslrootcert=hunter2@h/d', /^names a file that cannot be read: sslrootcert, whose/],
    [`postgres://u:pa@hu?sslrootcert=${path('text.pem')}&x=hunter2@h/d`, /^names a file that holds no certificate: sslrootcert, whose/],
    [`postgres://u:pa@hu?sslcert=${path('one.pem')}&sslkey=${path('two.key')}&x=hunter2@h/d`, /^names a certificate and a key that cannot be used: sslcert, whose/],
    ['postgres://u:pa@hu?sslnegotiation=hunter2@h/d', /^cannot be parsed.*"\?" is %3F/]
  ]
  for (const [connectionString, flaw] of passwords) {
    const reading = readConnection({ connectionString }, text => {
      if (text.includes('sslnegotiation')) throw new Error('Invalid sslnegotiation value: "hunter2@h/d".')
      return parsed(text.replace('u:hunter2?', 'u:p@x?'))
    })
    t.match(reading, { kind: 'refused', flaw })
    t.notMatch(JSON.stringify(reading), new RegExp(`hunter2|${folder}`), connectionString)
  }
  const advised = readConnection({ connectionString: 'postgres://u:pa@hu?schema=hunter2@h/d' }, parsed)
  t.match(advised, { kind: 'read', advice: /"schema", which Prisma reads/ })
  t.notMatch((advised as { advice: string }).advice, /hunter2/)
  t.match(readConnection({ connectionString: `${at}?sslcert=${path('one.pem')}&sslkey=${path('one.key')}` }, parsed), { kind: 'read' })
  t.match(readConnection({ connectionString: 'postgres://u:hun,ter2@h/d' }, parsed), { kind: 'read' }, 'a comma of a password')
  t.match(readConnection({ connectionString: at }, () => ({ port: NaN })), { flaw: /port/ })
  t.match(readConnection({ connectionString: '/var/run/postgresql d' }, () => ({ host: '/var/run/postgresql', database: 'd', port: 5432 })), { config: { host: '/var/run/postgresql' } })
})

t.test('a number that JavaScript would round stays text, and everything else is as JSON has it', async t => {
  const values: ReadonlyArray<readonly [string | null | undefined, unknown]> = [
    [null, null], [undefined, null], ['null', null], ['"9007199254740993"', '9007199254740993'], ['true', true], ['[1]', [1]], ['{"a":1}', { a: 1 }],
    ['0', 0], ['-7', -7], ['1.10', 1.1], ['0.1', 0.1], ['-0.00001', -0.00001], ['1e-07', 1e-7], ['1e+22', 1e22], ['1.2345678901234568e+17', 1.2345678901234568e17], ['100', 100], ['1.7976931348623157e+308', Number.MAX_VALUE], ['5e-324', 5e-324],
    ['9007199254740991', Number.MAX_SAFE_INTEGER], ['9007199254740993', '9007199254740993'], ['-9223372036854775807', '-9223372036854775807'],
    ['9007199254740993.5000000000', '9007199254740993.5000000000'], ['0.1000000000000000055511151231257827', '0.1000000000000000055511151231257827'], ['1e400', '1e400']
  ]
  for (const [json, value] of values) t.strictSame(exactJson(json), value, String(json))
  t.throws(() => exactJson('{'), SyntaxError)
})

t.test('names and strings stand in SQL as they are, whatever is in them', async t => {
  t.strictSame(['users', 'Sch"ema', "o'brien", 'a.b', '"'].map(quotedName), ['"users"', '"Sch""ema"', '"o\'brien"', '"a.b"', '""""'])
  t.strictSame(['x', "o'brien", 'back\\slash', "\\'"].map(sqlLiteral), ["'x'", "'o''brien'", "E'back\\\\slash'", "E'\\\\'''"])
})

t.test('options are read by their rules into a frozen whole', async t => {
  interface Options { ageMs: number, share: number, mode: 'a' | 'b', names: readonly string[], on: boolean, key: string | undefined, port: { query (): void }, call: () => void }
  const port = { query () {} }
  const read = (input: unknown) => readOptions<Options>('thing', input, {
    ageMs: withDefault(durationMs({ min: 5 }), 10),
    share: withDefault(ratio, 0.5),
    mode: withDefault(oneOf(['a', 'b']), 'a'),
    names: withDefault(listOf(text), []),
    on: withDefault(flag, true),
    key: optional(secretText),
    port: objectWith<{ query (): void }>('a pool with query()', ['query']),
    call: withDefault(callable<() => void>('() => void'), () => {})
  })
  const options = read({ port, names: ['x'], ageMs: undefined })
  t.match(options, { ageMs: 10, share: 0.5, mode: 'a', names: ['x'], on: true, key: undefined, port })
  t.ok(Object.isFrozen(options) && Object.isFrozen(options.names))
  const message = (input: unknown): string => {
    try {
      read(input)
    } catch (error) {
      t.equal((error as { code: string }).code, 'ORI_CONTRACT_INVALID_OPTION')
      return (error as Error).message
    }
    return 'accepted'
  }
  t.equal(message({ port, ageMs: '15m' }), 'thing: option "ageMs" must be a whole number of milliseconds from 5 to 2147483647; received "15m".')
  t.match(message({ port, ageMs: Infinity }), /received Infinity \(number\)/)
  t.match(message({ port, ageMs: 4 }), /received 4 \(number\)/)
  t.match(message({ port, ageMS: 4 }), /option "ageMS" is not known\. The options are: ageMs, share/)
  t.match(message({}), /option "port" is missing; it must be a pool with query\(\)/)
  t.match(message({ port: {} }), /received a value of type object/)
  t.match(message({ port: 5 }), /received a value of type number/)
  t.match(message({ port, names: 'x' }), /a list of at least 0, each a non-empty string; received "x"/)
  t.match(message({ port, names: ['x', ''] }), /received a list of 2/)
  t.match(message({ port, mode: null }), /one of "a", "b"; received null/)
  t.match(message({ port, on: 1 }), /true or false/)
  t.match(message({ port, share: 2 }), /a number from 0 to 1/)
  t.match(message({ port, call: 1 }), /a function \(\) => void/)
  t.match(message([]), /the options must be an object; received a list of 0/)
  t.equal(message('secret'), 'thing: the options must be an object; received a string of 6 characters.')
  t.equal(message({ port, key: 5 }), 'thing: option "key" must be a non-empty string; received a value of type number.')
  t.equal(describe('hunter2', true), 'a string of 7 characters')
  t.equal(describe('x'.repeat(100), false).length, 63)
  t.equal(describe(() => 1, false), 'a function')
  t.type(options.mode, 'string')
  t.equal(readOptions<{ n: number | undefined }>('x', undefined, { n: optional(integer({ max: 3 })) }).n, undefined)
  const pools = { pool: objectWith<{ query (): void }>('a pool', ['query']), clock: optional(clockObject) }
  for (const input of [{ pool: 'postgres://u:secret@h/db' }, { pool: { query () {} }, clock: 'secret' }, { pool: ['secret'] }, { pool: { secret: 'secret' } }]) {
    t.throws(() => readOptions('thing', input, pools), { message: /^(?!.*secret)/ }, 'what is given in place of an object may be a connection string')
  }
  t.throws(() => readOptions<{ n: number }>('x', { n: 3 }, { n: rule('even', input => (input as number) % 2 === 0 ? input as number : undefined) }), /must be even/)
})

t.test('what a route demands is compiled strictly', async t => {
  t.equal(compileRouteSession(undefined), defaultRouteSession)
  t.equal(compileRouteSession(false), null)
  t.strictSame(compileRouteSession({ required: true, maxStalenessMs: 0, onUnavailable: 'fail' }), { required: true, maxStalenessMs: 0, onUnavailable: 'fail' })
  for (const bad of [true, null, [], 'x', { requird: true }, { required: 'yes' }, { maxStalenessMs: -1 }, { maxStalenessMs: 1.5 }, { maxStalenessMs: '5s' }, { onUnavailable: 'stael' }]) {
    t.throws(() => compileRouteSession(bad), { code: 'ORI_CONTRACT_INVALID_ROUTE_SESSION', message: /Write for example/ }, JSON.stringify(bad))
  }
})

t.test('the types are not any, and codes are literals', async t => {
  expectTypeOf<SessionOutcome>().not.toBeAny()
  expectTypeOf<ContractErrorCode>().toEqualTypeOf<
    'ORI_CONTRACT_INVALID_SESSION_KEY' | 'ORI_CONTRACT_INVALID_OPTION' | 'ORI_CONTRACT_INVALID_ROUTE_SESSION' | 'ORI_CONTRACT_FOREIGN_DECORATOR' |
    'ORI_CONTRACT_INCOMPATIBLE_COPIES' | 'ORI_CONTRACT_ROUTE_OUT_OF_SCOPE' | 'ORI_CONTRACT_INVALID_ANSWER' | 'ORI_CONTRACT_SLOT_TAKEN' | 'ORI_CONTRACT_SLOT_TOO_LATE' | 'ORI_SESSION_NO_RESOLVER' | 'ORI_SESSION_RESOLUTION_FAILED'>()
  // @ts-expect-error -- a plain string is no session key
  const notAKey: ReturnType<typeof sessionKey> = 'https://a b'
  t.ok(notAKey)
  const user: { readonly extra: SessionUser['extra'] } = { extra: {} }
  // @ts-expect-error -- an app declares what its source reads
  t.equal(user.extra.plan, undefined)
})
