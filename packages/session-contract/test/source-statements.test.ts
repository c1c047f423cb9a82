import { ManualClock } from '@orientor/test-kit'
import t from 'tap'
import {
  asSent, columnName, columnOr, extraField, extraOfRow, extraSql, instantMsOfText, instantMsSql, isMisnamed, isName,
  issuerColumn, jsonOfText, maxNameBytes, nameOf, objectOfText, readMarkSql, revisionOfText,
  sendStatement, serverMarkSql, SourceUnavailable, startDeadline, tokensValidFromMsOfText, untoldMark, type StatementConfig
} from '../src/core.js'

t.test('a name is taken as PostgreSQL would keep it: whole, without NUL, and not cut', async t => {
  for (const name of ['users', 'User', 'a.b', '"', 'é'.repeat(31), 'x'.repeat(maxNameBytes)]) {
    t.ok(isName(name), name)
    t.equal(columnName.accept(name), name)
  }
  for (const input of ['', 'a\0b', 'x'.repeat(maxNameBytes + 1), 'é'.repeat(32), 7, null, undefined, {}]) {
    t.notOk(isName(input))
    t.equal(columnName.accept(input), undefined)
  }
  t.equal(nameOf('trigger').must, 'the name of a trigger, at most 63 bytes')
})

t.test('a column may be given, or the constant in its place, and nothing beside it', async t => {
  t.equal(issuerColumn.accept('issuer'), 'issuer')
  const constant = issuerColumn.accept({ always: 'https://id.example.com' })
  t.strictSame(constant, { always: 'https://id.example.com' })
  t.ok(Object.isFrozen(constant))
  const refused = ['', null, 7, [], {}, { always: '' }, { always: 'a b' }, { always: 7 }, { always: 'a', more: 1 }]
  for (const input of refused) t.equal(issuerColumn.accept(input), undefined, JSON.stringify(input))
  t.equal(issuerColumn.must, `${columnName.must}, or { always: "https://…" }, the iss of all tokens; an issuer alone is no column`)
  t.equal(issuerColumn.accept('https://id.example.com'), undefined, 'an issuer where a column is meant')
  const flag = columnOr('{ always: true }', always => always === true)
  t.strictSame(flag.accept({ always: true }), { always: true })
  t.equal(flag.accept({ always: false }), undefined)
})

t.test('values are read from the texts that the server sent, and what is not exact is none', async t => {
  t.equal(instantMsSql('u."at"'), 'pg_catalog.floor(extract(epoch FROM u."at") * 1000)')
  for (const [text, ms] of [['1700000000000', 17e11], ['-1', -1], ['Infinity', null], ['NaN', null]] as const) {
    t.equal(instantMsOfText(text), ms, text)
  }
  const revisions = [['7', 7], ['0', 0], ['-1', 0], ['9007199254740993', 0], ['1.5', 0], ['x', 0]] as const
  for (const [text, revision] of revisions) {
    t.equal(revisionOfText(text), revision, text)
  }
  for (const [text, ms] of [['5', 5], ['-5', 0], ['Infinity', Number.MAX_SAFE_INTEGER]] as const) {
    t.equal(tokensValidFromMsOfText(text), ms, text)
  }
  for (const none of [null, undefined]) {
    t.equal(instantMsOfText(none), null)
    t.equal(revisionOfText(none), 0)
    t.equal(tokensValidFromMsOfText(none), 0)
    t.equal(jsonOfText(none), null)
    t.equal(objectOfText(none), null)
  }
  t.strictSame(objectOfText('{"plan":"pro"}'), { plan: 'pro' })
  for (const other of ['[1]', '"a"', '7', 'null']) t.equal(objectOfText(other), null, other)
})

t.test('columns of the app come as JSON under their places, and numbers that would be rounded as text', async t => {
  t.equal(extraSql('u."plan"', 'text'), 'pg_catalog.to_json(u."plan")')
  for (const type of ['int8', 'numeric']) t.equal(extraSql('u."n"', type), 'pg_catalog.to_json(u."n"::text)', type)
  t.equal(extraSql('u."n"', undefined), 'pg_catalog.to_json(u."n")')
  const row = { [extraField(0)]: '"pro"', [extraField(1)]: null, [extraField(2)]: '{"a":[1]}' }
  t.strictSame(extraOfRow(row, ['plan', 'role', 'data']), { plan: 'pro', role: null, data: { a: [1] } })
  t.strictSame(extraOfRow(row, []), {})
})

t.test('a read mark calls everything by its full name, and the table as FROM does', async t => {
  for (const sql of [serverMarkSql, readMarkSql('"users"')]) {
    const unquoted = sql.replaceAll(/'[^']*'/g, '')
    const words = unquoted.split(/[^\w.]+/).filter(word => /[a-z]/.test(word) && word !== 'epoch')
    t.strictSame(words.filter(word => !word.startsWith('pg_catalog.') && !word.startsWith('.pg_catalog.')), [])
  }
  t.ok(readMarkSql('"users"').startsWith(serverMarkSql.slice(0, -1)), 'the server part, and the relation')
  for (const [table, literal] of [['"a b"."it\'s"', '\'"a b"."it\'\'s"\''], ['"a\\b"', 'E\'"a\\\\b"\'']] as const) {
    t.ok(readMarkSql(table).endsWith(`, ${literal}::pg_catalog.regclass::pg_catalog.oid)`), table)
  }
  t.equal(untoldMark, '')
})

t.test('a statement is sent with the time that is left, as idempotent, and its values come as text', async t => {
  const clock = new ManualClock()
  const deadline = startDeadline(clock, 500)
  const sent: StatementConfig[] = []
  const rows = [{ id: '7' }]
  const pool = { async query (statement: StatementConfig) { sent.push(statement); return { rows } } }
  clock.advance(100)
  const statement = { text: 'SELECT $1', values: [['a']], name: 'find' }
  t.equal(await sendStatement(() => pool, statement, deadline, clock, 'The table'), rows)
  t.strictSame(sent, [{ ...statement, types: asSent, query_timeout: 400, deadline, idempotent: true }])

  const failure = new Error('refused')
  const failing = { query: async () => await Promise.reject(failure) }
  await t.rejects(sendStatement(() => failing, statement, deadline, clock, 'The table'), failure)
  const hanging = { query: async () => await new Promise<never>(() => {}) }
  const waiting = sendStatement(() => hanging, statement, deadline, clock, 'The table')
  clock.advance(400)
  await t.rejects(waiting, { constructor: SourceUnavailable, message: 'The table did not answer in time' })
  const late = sendStatement(() => { throw new Error('asked') }, statement, deadline, clock, 'The table')
  await t.rejects(late, { constructor: SourceUnavailable, message: 'The table was not asked: no time is left' })
})

t.test('a statement that is not there, or is there already, shows that a pooler gave out another session', async t => {
  for (const code of ['26000', '42P05']) t.ok(isMisnamed(Object.assign(new Error(), { code })), code)
  for (const other of [null, undefined, 'text', { code: '0A000' }, { code: '42883' }]) t.notOk(isMisnamed(other))
})
