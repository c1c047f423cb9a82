import { SourceUnavailable, createIdentity, sessionKey, startDeadline, type Deadline, type LoadRequest, type TextRow, type UserRecord } from '@orientor/session-contract/core'
import { ManualClock } from '@orientor/test-kit'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { needsSync } from '../src/change-detection.js'
import { claimOf, defaultClaimNames, profileOfClaims } from '../src/claims-profile.js'
import { cleanJson, cleanText } from '../src/clean-text.js'
import { errors } from '../src/errors.js'
import type { IdentityProvider, ProviderAnswer } from '../src/identity-provider.js'
import { isNews, isTooFarAhead, maxVersionLeadMs, observe, type ObservedProfile, type ProfileObserved, type UserState } from '../src/observation.js'
import { resolveOptions } from '../src/options.js'
import { readInHalves } from '../src/read-in-halves.js'
import { SmartDatabaseSync, type SmartDatabaseSyncOptions } from '../src/smart-database-sync.js'
import { recordOf } from '../src/user-record.js'
import { bareTable, quotedTable } from '../src/table-names.js'
import { TablesGate } from '../src/tables-gate.js'
import type { StoredUser } from '../src/user-store.js'
import { join } from './fixtures/join.js'
import { MemoryStore, now, profile, row } from './fixtures/memory-store.js'

const issuer = 'https://idp.example'
const hour = 3_600_000

t.test('change detection', t => {
  const decide = (stored: Parameters<typeof needsSync>[0]['stored'], providerTimestamp: unknown, force = false): string => {
    const { sync, reason } = needsSync({ stored, providerTimestamp, nowMs: now, forceSyncAfterMs: hour, force })
    return `${sync ? 'yes' : 'no'}: ${reason}`
  }
  const fresh = { providerUpdatedAtMs: now - 10_000, lastSyncedAtMs: now - 1000 }
  const due = { ...fresh, lastSyncedAtMs: now - hour }

  t.test('a user without a row needs a sync', async t => {
    t.equal(decide(null, undefined), 'yes: missing')
    t.equal(decide(null, now), 'yes: missing')
  })
  t.test('a provider that says nothing is asked once per force interval', async t => {
    for (const nothing of [undefined, null]) {
      t.equal(decide(fresh, nothing), 'no: not_due')
      t.equal(decide({ ...fresh, lastSyncedAtMs: now - hour + 1 }, nothing), 'no: not_due')
      t.equal(decide(due, nothing), 'yes: due')
      t.equal(decide({ ...fresh, lastSyncedAtMs: null }, nothing), 'yes: due')
    }
  })
  t.test('a strictly newer timestamp needs a sync, an equal or older one never does', async t => {
    t.equal(decide(fresh, now - 9999), 'yes: newer')
    t.equal(decide(fresh, now - 10_000), 'no: current')
    t.equal(decide(fresh, now - 10_001), 'no: current')
    t.equal(decide(due, now - 10_000), 'no: current')
  })
  t.test('timestamps are compared in milliseconds whatever their unit', async t => {
    const stored = { providerUpdatedAtMs: 1_710_784_199_431, lastSyncedAtMs: now }
    t.equal(decide(stored, 1_710_784_199), 'no: current')
    t.equal(decide(stored, 1_710_784_200), 'yes: newer')
    t.equal(decide(stored, '2024-03-18T17:49:59.431999Z'), 'no: current')
    t.equal(decide(stored, '2024-03-18T19:49:59.432+02:00'), 'yes: newer')
  })
  t.test('a timestamp that cannot be read means at most one sync per force interval', async t => {
    t.equal(decide(fresh, 'yesterday'), 'no: not_due')
    t.equal(decide(due, 'yesterday'), 'yes: unreadable')
    t.equal(decide(due, 0), 'yes: unreadable')
  })
  t.test('a row without a timestamp is synced at once when the provider gives a readable one, however old and in whatever form', async t => {
    for (const stored of [fresh, due, { lastSyncedAtMs: now }, { lastSyncedAtMs: null }]) {
      for (const readable of [now, now - 30 * 86_400_000, Math.floor(now / 1000), String(now), '2024-03-18T17:49:59+00:00', new Date(now)]) {
        t.equal(decide({ ...stored, providerUpdatedAtMs: null }, readable), 'yes: unversioned')
      }
    }
    for (const unreadable of ['yesterday', 0, {}, '2024-03-18T17:49:59']) t.equal(decide({ ...fresh, providerUpdatedAtMs: null }, unreadable), 'no: not_due')
    for (const nothing of [undefined, null]) t.equal(decide({ ...fresh, providerUpdatedAtMs: null }, nothing), 'no: not_due')
  })
  t.test('force overrules everything', async t => {
    t.equal(decide(fresh, now - 20_000, true), 'yes: forced')
    t.equal(decide(fresh, undefined, true), 'yes: forced')
  })
  t.test('a last sync in the far future comes from a wrong clock and does not silence the force interval', async t => {
    t.equal(decide({ ...fresh, lastSyncedAtMs: now + 1000 }, undefined), 'no: not_due')
    t.equal(decide({ ...fresh, lastSyncedAtMs: now + hour }, undefined), 'yes: due')
  })
  t.end()
})

t.test('observations', t => {
  const versioned = fc.record({
    deleted: fc.boolean(),
    version: fc.integer({ min: 0, max: 4 }),
    fingerprint: fc.constantFrom('00a', '01a', '10a', '10b', '11a')
  }) as fc.Arbitrary<UserState>

  t.test('the join is commutative, associative and idempotent', async t => {
    fc.assert(fc.property(versioned, versioned, versioned, (a, b, c) => {
      const same = (one: UserState, other: UserState): boolean => one.deleted === other.deleted && one.version === other.version && one.fingerprint === other.fingerprint
      return same(join(a, b), join(b, a)) && same(join(join(a, b), c), join(a, join(b, c))) && same(join(a, a), a)
    }), { numRuns: 3000 })
  })
  t.test('what is accepted one by one, in any order and with repetitions, is what the join gives', async t => {
    const live = versioned.map(state => ({ ...state, deleted: false }))
    fc.assert(fc.property(fc.array(live, { minLength: 1, maxLength: 6 }).chain(states => fc.tuple(fc.constant(states), fc.shuffledSubarray([...states, ...states], { minLength: states.length * 2 }))), ([states, arrivals]) => {
      let stored: UserState | null = null
      for (const state of arrivals) if (isNews(stored, { version: state.version, fingerprint: state.fingerprint! })) stored = state
      const expected = states.reduce(join)
      return stored?.version === expected.version && stored?.fingerprint === expected.fingerprint
    }), { numRuns: 3000 })
  })
  t.test('a state without a version, or without a fingerprint, is below any with one', async t => {
    const bare = { deleted: false, version: null, fingerprint: null }
    const full = { deleted: false, version: 1, fingerprint: '10a' }
    t.equal(join(bare, full), full)
    t.equal(join(full, bare), full)
    t.equal(join({ ...full, fingerprint: null }, full), full)
    t.equal(join(bare, { ...bare, fingerprint: '10a' }).fingerprint, '10a')
  })
  t.test('deletion is terminal', async t => {
    t.equal(isNews({ deleted: true, version: 1, fingerprint: '1' }, { version: 99, fingerprint: '9' }), false)
    t.equal(join({ deleted: true, version: 1, fingerprint: null }, { deleted: false, version: 2, fingerprint: '1' }).deleted, true)
  })
  t.test('a hint without a version never replaces what has one, and replaces a lesser or different hint', async t => {
    const hint = observe(issuer, 'a', profile, null, false)
    const other = observe(issuer, 'a', { ...profile, firstName: 'Eve' }, null, false)
    const complete = observe(issuer, 'a', profile, null, true)
    const stored = ({ version, fingerprint }: ProfileObserved): UserState => ({ deleted: false, version, fingerprint })
    t.equal(isNews({ deleted: false, version: 1, fingerprint: null }, hint), false)
    t.equal(isNews(stored(hint), hint), false)
    t.equal(isNews(stored(hint), other), true)
    t.equal(isNews(stored(other), hint), true)
    t.equal(isNews(stored(hint), complete), true)
    t.equal(isNews(stored(complete), hint), false)
    t.equal(isNews(stored(hint), { version: 1, fingerprint: '' }), true)
    t.equal(isNews({ deleted: false, version: null, fingerprint: null }, hint), true)
  })
  t.test('at one version a complete profile beats a partial one, and a barred one beats both', async t => {
    const partial = observe(issuer, 'a', profile, 5, false)
    const complete = observe(issuer, 'a', profile, 5, true)
    const barred = observe(issuer, 'a', { ...profile, blocked: true }, 5, true)
    t.ok(partial.fingerprint < complete.fingerprint && complete.fingerprint < barred.fingerprint)
  })
  t.test('the fingerprint depends on the content, not on the order of its names', async t => {
    const shuffled = { ...profile, data: { b: 2, a: 1 } }
    t.equal(observe(issuer, 'a', profile, 1, true).fingerprint, observe(issuer, 'a', shuffled, 2, true).fingerprint)
    t.not(observe(issuer, 'a', profile, 1, true).fingerprint, observe(issuer, 'a', { ...profile, data: { a: [2, 1] } }, 1, true).fingerprint)
  })
  t.test('a version more than 24 hours ahead is not believed', async t => {
    t.equal(isTooFarAhead(now + maxVersionLeadMs, now), false)
    t.equal(isTooFarAhead(now + maxVersionLeadMs + 1, now), true)
    t.equal(isTooFarAhead(null, now), false)
  })
  t.end()
})

t.test('claims', t => {
  t.test('the first claim that is there and not null counts, and only own properties do', async t => {
    t.same(profileOfClaims({ email: 'a@b.c', first_name: 'Ada', family_name: null, last_name: 'L' }, defaultClaimNames), { email: 'a@b.c', firstName: 'Ada', lastName: 'L', blocked: false, data: null })
    t.equal(claimOf({}, ['toString', 'constructor']), undefined)
    t.equal(profileOfClaims({ email: 7, given_name: '' }, defaultClaimNames).email, null)
  })
  t.test('texts lose what Postgres cannot store', async t => {
    t.equal(cleanText('a\0b\ud800'), 'ab\ufffd')
    t.equal(cleanText('\0'), null)
    t.equal(cleanText({}), null)
    t.same(cleanJson({ 'k\0': ['\0x', 1, null, { deep: '\ud800' }] }), { k: ['x', 1, null, { deep: '\ufffd' }] })
  })
  t.end()
})

t.test('options', t => {
  const refuses = (t: Test, options: unknown, message: RegExp): void => {
    t.throws(() => resolveOptions(options), { code: 'ORI_CONTRACT_INVALID_OPTION', message })
  }
  t.test('nothing is required, and the defaults are those that are documented', async t => {
    const options = resolveOptions(undefined)
    t.match(options, { forceSyncAfterMs: hour, migrate: true, tables: { users: 'users', migrations: 'smart_sync_migrations' }, claims: defaultClaimNames })
    t.equal(resolveOptions({ clerk: { secretKey: 'sk_1' } }).clerk?.apiUrl, 'https://api.clerk.com')
    t.same(resolveOptions({ claims: { email: ['mail'] } }).claims, { ...defaultClaimNames, email: ['mail'] })
  })
  t.test('wrong options are refused with what is wrong, the rule and what was received', async t => {
    refuses(t, { pool: {} }, /"pool" must be a pg pool; received/)
    refuses(t, { forceSyncAfterMs: '1h' }, /"forceSyncAfterMs" must be a whole number of milliseconds.*"1h"/)
    refuses(t, { forceSyncAfter: 1 }, /"forceSyncAfter" is not known/)
    refuses(t, { clerk: { secretKey: 'sk_1' }, provider: { serves () {}, lookUp () {} } }, /exclude each other/)
    refuses(t, { clerk: {} }, /"secretKey" is missing/)
    refuses(t, { clerk: { secretKey: 'sk_1', apiUrl: 'https://me:pw@api.clerk.com' } }, /"apiUrl" must be .* without credentials/)
    refuses(t, { clerk: { secretKey: 'sk_1', apiUrl: 'ftp://x' } }, /"apiUrl"/)
    refuses(t, { clerk: { secretKey: 'sk_1', apiUrl: 7 } }, /"apiUrl"/)
    refuses(t, { claims: { mail: ['x'] } }, /"mail" is not known/)
  })
  t.test('a secret key is never shown', async t => {
    try {
      resolveOptions({ clerk: { secretKey: 'sk_secret with space' } })
      t.fail('accepted')
    } catch (error) {
      t.notMatch((error as Error).message, /sk_secret/)
    }
  })
  t.test('table names are identifiers, with or without a schema, and follow the users table', async t => {
    t.same(resolveOptions({ tables: { users: 'auth.People' } }).tables, {
      users: 'auth.People', tombstones: 'auth.user_tombstones', deadLetters: 'auth.sync_dead_letters', checkpoints: 'auth.sync_checkpoints', migrations: 'auth.smart_sync_migrations'
    })
    t.equal(quotedTable('auth.People'), '"auth"."People"')
    t.equal(bareTable('auth.People'), 'People')
    t.equal(bareTable('people'), 'people')
    t.match(resolveOptions({ tables: { users: 'o\'brien "x".y.users' } }).tables, { users: 'o\'brien "x".y.users', tombstones: 'o\'brien "x".y.user_tombstones' })
    t.equal(quotedTable('o\'brien "x".y.users'), '"o\'brien ""x"".y"."users"', 'what stands before the last point is the schema, whatever it is called')
    const bad = ['users"; DROP TABLE x; --', 'a.b.', '.users', 'a.us ers', 'a\0.users', `${'ü'.repeat(32)}.users`, '1users', 'üsers', '', 'x'.repeat(41), 7]
    for (const users of bad) refuses(t, { tables: { users } }, /"tables" must be/)
    refuses(t, { tables: { people: 'x' } }, /"tables" must be/)
    refuses(t, { tables: { users: 'same', tombstones: 'same' } }, /all different/)
    refuses(t, { tables: 'users' }, /"tables" must be/)
  })
  t.end()
})

t.test('the gate before the tables', t => {
  const setup = (outcomes: Array<Error | null>): { clock: ManualClock, gate: TablesGate, failures: unknown[] } => {
    const clock = new ManualClock()
    const failures: unknown[] = []
    const gate = new TablesGate({
      clock,
      random: () => 0,
      onFailure: error => { failures.push(error) },
      onPrepared: () => {},
      prepare: async () => {
        const outcome = outcomes.shift() ?? null
        if (outcome !== null) throw outcome
        return { adoption: { isReadable: true, refusals: [], warnings: [] }, failure: null }
      }
    })
    return { clock, gate, failures }
  }
  const away = new SourceUnavailable('away')

  t.test('opens at the first attempt when the database is there', async t => {
    const { gate } = setup([])
    t.throws(() => { gate.pass() }, SourceUnavailable)
    await gate.start(5000)
    gate.pass()
    await gate.opened
    await gate.close()
  })
  t.test('lets the server start without a database and tries again until it is there', async t => {
    const { clock, gate, failures } = setup([away, new errors.MigrationLocked('1'), new errors.MigrationFailed('x', { cause: null })])
    await gate.start(5000)
    for (let attempt = 0; attempt < 3; attempt++) {
      t.throws(() => { gate.pass() }, SourceUnavailable)
      await clock.settle()
      clock.advance(250)
    }
    await gate.opened
    gate.pass()
    t.equal(failures.length, 3)
    await gate.close()
  })
  t.test('fails the start when the first attempt fails for good', async t => {
    const { gate } = setup([new errors.MigrationFailed('no', { cause: null })])
    await t.rejects(gate.start(5000), { code: 'ORI_SYNC_MIGRATION_FAILED' })
  })
  t.test('does not keep the server waiting for a database that hangs', async t => {
    const clock = new ManualClock()
    let finish = (): void => {}
    const gate = new TablesGate({
      clock,
      random: () => 0,
      onFailure: () => {},
      onPrepared: () => {},
      prepare: async () => {
        await new Promise<void>(resolve => { finish = resolve })
        return { adoption: { isReadable: true, refusals: [], warnings: [] }, failure: null }
      }
    })
    const started = gate.start(5000)
    clock.advance(5000)
    await started
    t.throws(() => { gate.pass() }, SourceUnavailable)
    finish()
    await gate.opened
    gate.pass()
  })
  t.test('closing ends the attempts and tells those who wait', async t => {
    const { gate, clock } = setup([away, away])
    await gate.start(5000)
    await clock.settle()
    await gate.close()
    await t.rejects(gate.opened, { code: 'ORI_SYNC_CLOSED' })
    t.equal(clock.pendingTimers, 0)
  })
  t.end()
})

interface Bundle {
  readonly clock: ManualClock
  readonly store: MemoryStore
  readonly sync: SmartDatabaseSync
  readonly answers: Map<string, ProviderAnswer>
  readonly asked: string[][]
  readonly deadline: Deadline
  load (...requests: LoadRequest[]): Promise<UserRecord[]>
}

function setup (options: Partial<SmartDatabaseSyncOptions> & { readonly rows?: readonly StoredUser[] } = {}): Bundle {
  const { rows = [], ...more } = options
  const clock = new ManualClock({ now })
  const store = new MemoryStore()
  for (const stored of rows) store.rows.set(stored.key, stored)
  const answers = new Map<string, ProviderAnswer>()
  const asked: string[][] = []
  const provider: IdentityProvider = {
    serves: other => other === issuer,
    async lookUp (_issuer, subjects) {
      asked.push([...subjects])
      return new Map(subjects.flatMap(subject => answers.has(subject) ? [[subject, answers.get(subject)!]] : []))
    }
  }
  const sync = new SmartDatabaseSync({ store, provider, claims: defaultClaimNames, forceSyncAfterMs: hour, parseProfile: null, clock, ...more })
  const deadline = startDeadline(clock, 2000)
  return { clock, store, sync, answers, asked, deadline, load: async (...requests) => await Promise.all(sync.load(requests, deadline)) }
}

function request (subject: string, claims: Record<string, unknown> | null = {}, more: Partial<LoadRequest> = {}): LoadRequest {
  const identity = claims === null ? null : createIdentity({ issuer: more.issuer ?? issuer, subject, claims })
  return { key: sessionKey(more.issuer ?? issuer, subject), issuer, subject, identity, ...more }
}

const found = (version: number | null, more: Partial<ObservedProfile> = {}): ProviderAnswer => ({ kind: 'found', profile: { ...profile, ...more }, version })
const down: ProviderAnswer = { kind: 'failed', error: new errors.ProviderUnavailable('down'), retryAfterMs: 7000 }

t.test('smart database sync', t => {
  t.test('a row that is up to date is answered from one statement, without the provider', async t => {
    const { load, store, asked, sync } = setup({ rows: [row('a')] })
    const [record] = await load(request('a'))
    t.match(record, { kind: 'active', sync: 'skipped', revision: 1, user: { userId: 'id-a', email: 'ada@example.com', profile: null } })
    t.same(store.calls, ['find 1'])
    t.same(asked, [])
    t.match(sync.stats.snapshot(), { attempts: 1, performed: 0, skipped: 1, errors: 0, skips: { not_due: 1 } })
  })

  t.test('an empty batch asks nobody', async t => {
    const { load, store } = setup()
    t.same(await load(), [])
    t.same(store.calls, [])
  })

  t.test('the record is frozen all the way down', async t => {
    const { load } = setup({ rows: [row('a', { profile: { nested: { x: 1 } } })] })
    const record = (await load(request('a')))[0]!
    t.ok(record.kind === 'active' && Object.isFrozen(record) && Object.isFrozen(record.user) && Object.isFrozen((record.user.profile as { nested: object }).nested))
  })

  t.test('a newer hint leads to one lookup and one write, and listeners hear of it', async t => {
    const { load, answers, store, sync } = setup({ rows: [row('a')] })
    answers.set('a', found(5_000_000, { firstName: 'Augusta' }))
    const heard: unknown[] = []
    const stop = sync.onChange(change => heard.push(change))
    const [record] = await load(request('a', { updated_at: 1_767_000_000 }))
    t.match(record, { kind: 'active', sync: 'performed', revision: 2, lastSyncedAtMs: now, user: { firstName: 'Augusta', providerUpdatedAt: 5_000_000 } })
    t.same(store.calls, ['find 1', 'write a'])
    t.match(heard, [{ kind: 'user', keyHash: /^[0-9a-f]{64}$/, revision: 2 }])
    stop()
    answers.set('a', found(6_000_000))
    await load(request('a', {}, { force: true }))
    t.equal(heard.length, 1)
    t.match(sync.stats.snapshot(), { attempts: 2, performed: 2, profileCreates: 0 })
  })

  t.test('an identity\'s own hint comes before the claim', async t => {
    const { load, asked } = setup({ rows: [row('a')] })
    const identity = createIdentity({ issuer, subject: 'a', providerUpdatedAt: 900, claims: { updated_at: 1_767_000_000 } })
    await load({ ...request('a'), identity })
    t.same(asked, [])
  })

  t.test('a check that finds nothing new writes only the time of the check, and only once per interval', async t => {
    const { load, answers, store, clock, sync } = setup({ rows: [row('a')] })
    answers.set('a', found(1000))
    clock.jump(hour)
    const [record] = await load(request('a'))
    t.match(record, { sync: 'skipped', lastSyncedAtMs: now + hour, revision: 1 })
    await load(request('a'), request('a', {}, { force: true }))
    t.same(store.calls, ['find 1', 'touch a', 'find 1'])
    t.match(sync.stats.snapshot(), { attempts: 2, skipped: 2, skips: { confirmed: 2 } })
  })

  t.test('a check that cannot be noted is no failure, unless it is a defect', async t => {
    const { load, answers, store, clock } = setup({ rows: [row('a')] })
    answers.set('a', found(1000))
    clock.jump(hour)
    store.touchFailure = new SourceUnavailable('gone')
    t.match(await load(request('a')), [{ sync: 'skipped', lastSyncedAtMs: now - 1000 }])
    store.touchFailure = new errors.StatementRefused('SQLSTATE 42501', { cause: null })
    await t.rejects(load(request('a')), { code: 'ORI_SYNC_STATEMENT_REFUSED' })
  })

  t.test('a known user does not wait for an unknown one\'s provider', async t => {
    let answer = (_answers: ReadonlyMap<string, ProviderAnswer>): void => {}
    const provider: IdentityProvider = { serves: () => true, lookUp: async () => await new Promise(resolve => { answer = resolve }) }
    const { sync, deadline, clock } = setup({ rows: [row('known')], provider })
    const [unknown, known] = sync.load([request('new'), request('known')], deadline)
    t.match(await known, { kind: 'active', sync: 'skipped' })
    await clock.settle()
    answer(new Map([['new', found(1)]]))
    t.match(await unknown, { kind: 'active', sync: 'performed' })
  })

  t.test('a batch asks once for each user, with the newest identity', async t => {
    const { load, answers, asked, store, sync } = setup()
    answers.set('a', found(1000))
    const old = createIdentity({ issuer, subject: 'a', issuedAtMs: 1000 })
    const young = createIdentity({ issuer, subject: 'a', issuedAtMs: 2000 })
    const records = await load({ ...request('a'), identity: young }, { ...request('a'), identity: old }, { ...request('a'), identity: null })
    t.equal(records.length, 3)
    t.ok(records.every(record => record === records[0]))
    t.same(asked, [['a']])
    t.same(store.calls, ['find 1', 'write a'])
    t.match(sync.stats.snapshot(), { attempts: 1, performed: 1, profileCreates: 1 })
  })

  t.test('new users are written sorted, and as many a statement as the store takes', async t => {
    const { load, answers, store } = setup()
    for (const subject of ['c', 'a', 'b']) answers.set(subject, found(1000))
    await load(request('c'), request('a'), request('b'))
    t.same(store.calls, ['find 3', 'write a b', 'write c'])
  })

  t.test('a user whom the provider does not know is unknown, and nothing is written', async t => {
    const { load, answers, store, sync } = setup({ rows: [row('gone', { revision: 7, lastSyncedAtMs: null })] })
    answers.set('a', { kind: 'unknown' }).set('gone', { kind: 'unknown' })
    t.same(await load(request('a'), request('gone')), [{ kind: 'unknown', revision: 0 }, { kind: 'unknown', revision: 7 }])
    t.same(store.calls, ['find 2'])
    t.match(sync.stats.snapshot(), { attempts: 2, skipped: 2, skips: { unknown: 2 } })
  })

  t.test('while the provider is down a known user goes on, marked, and a new one gets a provisional row', async t => {
    const { load, answers, store, sync } = setup({ rows: [row('known', { lastSyncedAtMs: null })] })
    answers.set('known', down).set('new', down)
    const records = await load(request('known'), request('new', { email: 'new@example.com', given_name: 'Nora' }))
    t.match(records, [
      { kind: 'active', sync: 'failed', user: { userId: 'id-known' } },
      { kind: 'active', sync: 'failed', lastSyncedAtMs: null, user: { email: 'new@example.com', firstName: 'Nora', providerUpdatedAt: null } }
    ])
    t.match(sync.stats.snapshot(), { attempts: 2, errors: 2, performed: 0, profileCreates: 1, errorsByReason: { provider: 2 } })
    t.ok(sync.lastProviderFailure)

    answers.set('new', found(9000, { firstName: 'Eleonora' }))
    t.match(await load(request('new')), [{ kind: 'active', sync: 'performed', revision: 2, user: { firstName: 'Eleonora', providerUpdatedAt: 9000 } }])
    t.equal(sync.lastProviderFailure, null)
    t.equal(store.rows.size, 2)
  })

  t.test('a preload never makes up a user', async t => {
    const { load, answers, store } = setup()
    answers.set('a', down)
    await t.rejects(load(request('a', null)), { code: 'ORI_SOURCE_UNAVAILABLE', retryAfterMs: 7000 })
    answers.set('b', { kind: 'failed', error: new Error('down') })
    await t.rejects(load(request('b', null)), { code: 'ORI_SOURCE_UNAVAILABLE', retryAfterMs: 1000 })
    const elsewhere = 'https://other.example'
    t.match(await load(request('x', null, { issuer: elsewhere })), [{ kind: 'unknown' }])
    answers.set('c', found(1))
    t.match(await load(request('c', null)), [{ kind: 'active', sync: 'performed' }])
    t.equal(store.rows.size, 1)
  })

  t.test('a provider that throws, hangs or forgets a user counts as down', async t => {
    const throws = setup({ rows: [row('a')], provider: { serves: () => true, lookUp: async () => { throw new Error('bug') } } })
    t.match(await throws.load(request('a', {}, { force: true })), [{ sync: 'failed' }])

    const hangs = setup({ rows: [row('a')], provider: { serves: () => true, lookUp: async () => await new Promise(() => {}) } })
    const answer = hangs.load(request('a', {}, { force: true }))
    await hangs.clock.settle()
    hangs.clock.advance(1499)
    t.equal(hangs.deadline.signal.aborted, false)
    hangs.clock.advance(1)
    t.match(await answer, [{ sync: 'failed' }], 'a quarter of the time is left for the database')

    const forgets = setup({ rows: [row('a')] })
    t.match(await forgets.load(request('a', {}, { force: true })), [{ sync: 'failed' }])
  })

  t.test('without a provider the claims make the profile', async t => {
    const { load, store, sync, clock } = setup({ provider: null })
    const claims = { email: 'a@example.com', given_name: 'Ann', updated_at: 1_760_000_000 }
    t.match(await load(request('a', claims)), [{ sync: 'performed', lastSyncedAtMs: now, user: { email: 'a@example.com', providerUpdatedAt: 1_760_000_000_000 } }])
    t.match(await load(request('a', claims)), [{ sync: 'skipped', revision: 1 }])
    t.match(await load(request('a', { ...claims, given_name: 'Anna', updated_at: 1_760_000_001 })), [{ sync: 'performed', revision: 2, user: { firstName: 'Anna' } }])
    clock.jump(hour)
    t.match(await load(request('a', null)), [{ sync: 'skipped' }], 'a preload takes the row as it is')
    t.match(sync.stats.snapshot(), { attempts: 4, performed: 2, skipped: 2, errors: 0, skips: { current: 1, unknown: 1 } })
    t.equal(store.rows.size, 1)
  })

  t.test('claims without a timestamp are compared once per force interval', async t => {
    const { load, clock, store } = setup({ provider: null })
    await load(request('a', { given_name: 'Ann' }))
    t.match(await load(request('a', { given_name: 'Zoe' })), [{ sync: 'skipped', user: { firstName: 'Ann' } }])
    clock.jump(hour)
    t.match(await load(request('a', { given_name: 'Zoe' })), [{ sync: 'performed', user: { firstName: 'Zoe' } }])
    clock.jump(hour)
    t.match(await load(request('a', { given_name: 'Ann' })), [{ sync: 'performed', user: { firstName: 'Ann' } }])
    clock.jump(hour)
    t.match(await load(request('a', { given_name: 'Ann' })), [{ sync: 'skipped' }])
    t.same(store.calls.filter(call => !call.startsWith('find')), ['write a', 'write a', 'write a', 'touch a'])
  })

  t.test('a version from the future is refused: a row goes on, a new user is provisional', async t => {
    const { load, answers, sync } = setup({ rows: [row('a')] })
    answers.set('a', found(now + 2 * maxVersionLeadMs)).set('b', found(now + 2 * maxVersionLeadMs))
    t.match(await load(request('a', {}, { force: true }), request('b')), [
      { sync: 'failed', revision: 1, user: { providerUpdatedAt: 1000 } },
      { sync: 'failed', user: { providerUpdatedAt: null } }
    ])
    t.match(sync.stats.snapshot().errorsByReason, { future_version: 2, provider: 0 })
  })

  t.test('deleted, switched off and barred users are answered as such', async t => {
    const { load, answers, sync } = setup({ rows: [row('deleted', { deleted: true }), row('off', { isActive: false }), row('barred', { blocked: true }), row('freed', { blocked: true })] })
    answers.set('freed', found(2000))
    t.match(await load(request('deleted', {}, { force: true }), request('off'), request('barred'), request('freed', {}, { force: true })), [
      { kind: 'deleted', revision: 1 }, { kind: 'inactive', revision: 1 }, { kind: 'inactive', revision: 1 }, { kind: 'active', revision: 2 }
    ])
    t.equal(sync.stats.snapshot().skips.deleted, 1)
  })

  t.test('a user with a tombstone and no row is deleted', async t => {
    const { load, answers, store, sync } = setup()
    store.tombstones.add('a').add('b')
    answers.set('a', found(5000)).set('b', down)
    t.same(await load(request('a'), request('b')), [{ kind: 'deleted', revision: 0 }, { kind: 'deleted', revision: 0 }])
    t.equal(sync.stats.snapshot().skips.deleted, 1)
    t.equal(sync.stats.snapshot().errorsByReason.provider, 1)
  })

  t.test('a row that somebody else wrote meanwhile is answered as it stands', async t => {
    const { load, answers, store, sync } = setup()
    answers.set('a', found(5000)).set('b', down)
    const find = store.find.bind(store)
    store.find = async keys => {
      const rows = await find(keys)
      store.rows.set(request('a').key, row('a', { version: 5000, fingerprint: '2', revision: 9 }))
      store.rows.set(request('b').key, row('b', { version: 5000, fingerprint: '2', revision: 9 }))
      return rows
    }
    t.match(await load(request('a'), request('b')), [{ sync: 'skipped', revision: 9 }, { sync: 'failed', revision: 9 }])
    t.equal(sync.stats.snapshot().skips.converged, 1)
  })

  t.test('one user whom the table refuses spoils no other write', async t => {
    const { load, answers, store, sync, deadline } = setup({ rows: [row('c')] })
    const subjects = ['a', 'b', 'c', 'd']
    for (const subject of subjects) answers.set(subject, found(9000))
    store.refuse = ({ subject }) => subject === 'b' || subject === 'c' ? 'data' : null
    const results = await Promise.allSettled(sync.load(subjects.map(subject => request(subject, {}, { force: true })), deadline))
    t.match(results, [
      { value: { sync: 'performed' } },
      { reason: { code: 'ORI_SYNC_ROW_REFUSED' } },
      { value: { sync: 'failed', revision: 1 } },
      { value: { sync: 'performed' } }
    ])
    t.equal(sync.stats.snapshot().errorsByReason.refused, 2)
    await t.rejects(load(request('b')))
  })

  t.test('an e-mail address that is another\'s does not keep anybody out', async t => {
    const { load, answers, store, sync } = setup()
    for (const subject of ['a', 'b']) answers.set(subject, found(9000))
    store.refuse = ({ subject, profile }) => subject === 'b' && profile!.profile.email !== null ? 'duplicate' : null
    t.match(await load(request('a'), request('b')), [{ user: { email: 'ada@example.com' } }, { sync: 'performed', user: { email: null, firstName: 'Ada' } }])
    t.match(sync.stats.snapshot(), { performed: 2, emailCollisions: 1 })
    store.refuse = () => 'duplicate'
    answers.set('c', found(9000, { email: null }))
    await t.rejects(load(request('c')), { code: 'ORI_SYNC_ROW_REFUSED' })
  })

  t.test('a database that goes away is unavailable for new users, and known ones go on', async t => {
    const { sync, answers, store, deadline, load } = setup({ rows: [row('a')] })
    answers.set('a', found(9000)).set('b', found(9000)).set('c', down)
    store.writeFailure = new SourceUnavailable('gone')
    const results = await Promise.allSettled(sync.load([request('a', {}, { force: true }), request('b'), request('c')], deadline))
    t.match(results, [{ value: { sync: 'failed' } }, { reason: { code: 'ORI_SOURCE_UNAVAILABLE' } }, { reason: { code: 'ORI_SOURCE_UNAVAILABLE' } }])
    t.match(sync.stats.snapshot(), { attempts: 3, errors: 3, errorsByReason: { database: 2, provider: 1 } })
    store.findFailure = new SourceUnavailable('gone')
    await t.rejects(load(request('a'), request('b')), SourceUnavailable)
    t.match(sync.stats.snapshot(), { attempts: 5, errorsByReason: { database: 4 } })
  })

  t.test('a defect is thrown, and counted as one', async t => {
    const { load, answers, store, sync } = setup({ rows: [row('a')] })
    answers.set('a', found(9000))
    store.writeFailure = new errors.StatementRefused('SQLSTATE 42P01', { cause: null })
    await t.rejects(load(request('a', {}, { force: true })), { code: 'ORI_SYNC_STATEMENT_REFUSED' })
    store.findFailure = new errors.StatementRefused('SQLSTATE 42P01', { cause: null })
    await t.rejects(load(request('a')), { code: 'ORI_SYNC_STATEMENT_REFUSED' })
    t.equal(sync.stats.snapshot().errorsByReason.defect, 2)
  })

  t.test('parseProfile makes the profile, and spoils only its own user\'s load when it throws', async t => {
    const parseProfile = (data: Readonly<Record<string, unknown>>): object => {
      if (data['bad'] === true) throw new Error('bad')
      return { plan: data['plan'] }
    }
    const { sync, deadline } = setup({ rows: [row('a', { profile: { plan: 'pro' } }), row('b', { profile: { bad: true } }), row('c')], parseProfile })
    const results = await Promise.allSettled(sync.load([request('a'), request('b'), request('c')], deadline))
    t.match(results, [{ value: { user: { profile: { plan: 'pro' } } } }, { reason: { code: 'ORI_SYNC_PROFILE_REFUSED' } }, { value: { user: { profile: null } } }])
    t.throws(() => recordOf(row('b', { profile: { bad: true } }), 'skipped', parseProfile), { code: 'ORI_SYNC_PROFILE_REFUSED' })
  })

  t.test('the counts add up, flat and as instruments', async t => {
    const { load, answers, sync } = setup({ rows: [row('a')] })
    answers.set('b', found(1)).set('c', down)
    await load(request('a'), request('b'), request('c'))
    const flat = sync.stats.flat()
    t.match(flat, { attempts: 3, performed: 1, skipped: 1, errors: 1, profileCreates: 2, 'skips.not_due': 1, 'errors.provider': 1 })
    t.equal(flat['attempts'], flat['performed']! + flat['skipped']! + flat['errors']!)
    const readings = sync.stats.instruments.map(({ name, read }) => ({ name, total: read().reduce((sum, { value }) => sum + Number(value), 0) }))
    t.same(readings, [{ name: 'orientor.sync.attempts', total: 3 }, { name: 'orientor.sync.profile_creates', total: 2 }, { name: 'orientor.sync.email_collisions', total: 0 }, { name: 'orientor.sync.dead_letters', total: 0 }])
  })
  t.end()
})

t.test('a key that the database cannot hold has no rows, and keeps no other key from its own', async t => {
  const reads: string[] = []
  const read = async (keys: readonly string[]): Promise<readonly TextRow[]> => {
    reads.push(keys.join(''))
    if (keys.includes('!')) throw new Error('unholdable')
    return keys.map(key => ({ key }))
  }
  const isUnholdable = (error: unknown): boolean => (error as Error).message === 'unholdable'
  const found = async (keys: string): Promise<string> => {
    return (await readInHalves([...keys], read, isUnholdable)).map(({ key }) => key).join('')
  }
  t.strictSame([await found('abcd'), reads.splice(0)], ['abcd', ['abcd']], 'one statement where all can be held')
  t.strictSame([await found('ab!d'), reads.splice(0)], ['abd', ['ab!d', 'ab', '!d', '!', 'd']])
  const lists = [['!', ''], ['!!', ''], ['!bc', 'bc'], ['ab!', 'ab'], ['!b!d!', 'bd'], ['', '']] as const
  for (const [keys, left] of lists) {
    t.equal(await found(keys), left, keys)
  }
  const failing = async (): Promise<never> => await Promise.reject(new Error('other'))
  await t.rejects(readInHalves(['a'], failing, isUnholdable), { message: 'other' })
})
