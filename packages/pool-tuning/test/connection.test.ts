import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import t, { type Test } from 'tap'
import { makeCertificate, postgresMajor, testDatabase, testServer, until, type Authority, type PostgresServer } from '@orientor/test-kit'
import { DatabaseConnectionOptimizer, type PoolTuningOptions, type TunedQueryConfig } from '../src/core.js'

interface Line { readonly level: 'info' | 'warn' | 'error', readonly message: string }

function optimizerOf (t: Test, options: PoolTuningOptions): { readonly optimizer: DatabaseConnectionOptimizer, readonly lines: Line[] } {
  const lines: Line[] = []
  const logger = Object.fromEntries((['info', 'warn', 'error'] as const).map(level => [level, (_details: object, message: string) => { lines.push({ level, message }) }]))
  const optimizer = new DatabaseConnectionOptimizer({ environment: {}, minConnections: 0, tries: 1, drainMs: 100, ...options }, { logger: logger as never })
  t.teardown(() => optimizer.close())
  return { optimizer, lines }
}

interface TlsServer { readonly server: PostgresServer, readonly authority: Authority, readonly folder: string }

/** A server that speaks TLS with a certificate for 127.0.0.1, and a folder with the certificate of who signed it. */
async function tlsServer (t: Test): Promise<TlsServer> {
  const authority = makeCertificate({ commonName: 'authority of the test' })
  const leaf = makeCertificate({ commonName: 'server', hosts: ['127.0.0.1', 'localhost'], authority })
  const server = await testServer(t)
  const { uid, gid } = statSync(server.dataDir)
  for (const [name, content] of [['server.crt', leaf.certificate], ['server.key', leaf.key]] as const) {
    const path = join(server.dataDir, name)
    writeFileSync(path, content, { mode: 0o600 })
    chownSync(path, uid, gid)
  }
  const operator = new pg.Client({ connectionString: server.url() })
  await operator.connect()
  await operator.query('ALTER SYSTEM SET ssl = on')
  await operator.query('SELECT pg_reload_conf()')
  await until('the server speaks TLS', async () => (await operator.query('SHOW ssl')).rows[0].ssl === 'on')
  await operator.end()
  const folder = mkdtempSync(join(tmpdir(), 'orientor-tls-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  writeFileSync(join(folder, 'authority.pem'), authority.certificate)
  return { server, authority, folder }
}

const session = "SELECT current_user AS role, current_database() AS database, current_setting('application_name') AS name, current_setting('search_path') AS path, (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS ssl"

t.test('what is given beside a connection string counts, whatever the string says', async t => {
  const { url, server } = await testDatabase(t)
  const { pathname, port, password } = new URL(url)
  const database = pathname.slice(1)
  const operator = new pg.Client({ connectionString: url })
  await operator.connect()
  const role = `role_${database}`
  await operator.query(`CREATE ROLE ${role} LOGIN PASSWORD 'pass word'; CREATE SCHEMA app`)
  t.teardown(async () => {
    await operator.query(`DROP ROLE ${role}`)
    await operator.end()
  })
  const wrong = `postgres://postgres:wrong@127.0.0.1:${port}/${database}`
  const given: ReadonlyArray<readonly [what: string, connectionString: string, client: pg.ClientConfig, expected: object]> = [
    ['password', wrong, { password }, { role: 'postgres', database }],
    ['password, a function', wrong, { password: () => password }, { role: 'postgres' }],
    ['password, an asynchronous function', wrong.replace('wrong', ''), { password: async () => password }, { role: 'postgres' }],
    ['user', wrong, { user: role, password: 'pass word' }, { role, database }],
    ['database', `postgres://postgres:${password}@127.0.0.1:${port}/none`, { database }, { database }],
    ['host and port', `postgres://postgres:${password}@nowhere.invalid:1/${database}`, { host: '127.0.0.1', port: Number(port) }, { database }],
    ['application_name', `${url}?application_name=string`, { application_name: 'beside' }, { name: 'beside' }],
    ['application_name of the string', `${url}?application_name=string`, {}, { name: 'string' }],
    ['options', `${url}?options=-c%20search_path%3Dpublic`, { options: '-c search_path=app' }, { path: 'app' }],
    ['options of the string', `${url}?options=-c%20search_path%3Dapp`, {}, { path: 'app' }],
    ['ssl', `${url}?sslmode=require`, { ssl: false }, { ssl: false }],
    ['an undefined password', url, { password: undefined } as pg.ClientConfig, { role: 'postgres' }]
  ]
  for (const [what, connectionString, client, expected] of given) {
    const { optimizer } = optimizerOf(t, { connectionString, client })
    t.match((await optimizer.pool.query(session)).rows, [expected], what)
    t.match(optimizer.explain().settings.find(({ setting }) => setting === 'statement_timeout'), { delivery: 'startup' })
    const { optimizer: inside } = optimizerOf(t, { client: { ...client, connectionString } })
    t.match((await inside.pool.query(session)).rows, [expected], `${what}, with the string inside`)
  }
  await operator.query(`CREATE DATABASE ${role}`)
  t.teardown(() => server.dropDatabase(role))
  const { optimizer } = optimizerOf(t, { connectionString: `postgres://postgres:wrong@127.0.0.1:${port}`, client: { user: role, password: 'pass word' } })
  t.match((await optimizer.pool.query(session)).rows, [{ role, database: role }], 'a database that is called as the user')
})

t.test('a function for the password is asked for every connection anew, and what it fails with is told', async t => {
  const { url } = await testDatabase(t)
  const address = new URL(url)
  const { password } = address
  address.password = 'of-the-string'
  let asked = 0
  let answer: () => unknown = () => password
  const { optimizer } = optimizerOf(t, {
    connectionString: address.href,
    size: 3,
    overflow: 0,
    // Else one is opened in the background, with whichever password is right just then.
    minConnections: 0,
    tries: 2,
    client: {
      password: async () => {
        asked++
        return await answer() as string
      }
    }
  })
  const { pool } = optimizer
  await Promise.all(Array.from({ length: 3 }, () => pool.query('SELECT pg_sleep(0.05)')))
  t.equal(asked, 3)
  const operator = new pg.Client({ connectionString: url })
  await operator.connect()
  await operator.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()')
  await operator.end()
  await until('they are gone', () => pool.totalCount === 0)
  answer = () => 'of-yesterday'
  await t.rejects(pool.query('SELECT 1'), { code: '28P01' })
  answer = () => { throw new Error('no token today') }
  await t.rejects(pool.query('SELECT 1'), { code: 'ORI_POOL_PASSWORD_FAILED', message: /"client\.password" failed/, databaseFailure: 'unsent', cause: { message: 'no token today' } })
  for (const odd of [undefined, null, 7, Buffer.from('x')]) {
    answer = () => odd
    await t.rejects(pool.query('SELECT 1'), { code: 'ORI_POOL_PASSWORD_FAILED', message: /answered with/ })
  }
  let failures = 1
  answer = () => {
    if (failures-- > 0) throw new Error('once')
    return password
  }
  t.ok(await pool.query('SELECT 1'), 'asked again within the deadline')
})

t.test('whatever hangs while a connection is opened fails with a code of its own, and what hung is no harm later', async t => {
  const { url } = await testDatabase(t)
  const silent = createServer()
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => { silent.close() })
  const address = new URL(url)
  const { password } = address
  address.password = ''
  const never = new Promise<never>(() => {})
  let hangs = true
  const late: Array<() => void> = []
  const hanging: Readonly<Record<string, PoolTuningOptions>> = {
    'a function for the password': { connectionString: address.href, client: { password: async () => { if (hangs) await new Promise<void>(resolve => { late.push(resolve) }); return password } } },
    'a server': { connectionString: `postgres://u:p@127.0.0.1:${(silent.address() as AddressInfo).port}/d` },
    'work on a new connection': { connectionString: url, onConnect: async () => { await never } }
  }
  for (const [what, options] of Object.entries(hanging)) {
    const { optimizer: { pool } } = optimizerOf(t, { size: 1, overflow: 0, tries: 1, connectTimeoutMs: 100, timeoutMs: 1000, ...options })
    await t.rejects(pool.query('SELECT 1'), { code: 'ORI_POOL_CONNECT_TIMEOUT', databaseFailure: 'unsent', message: /No connection within 100 ms/ }, what)
    await t.rejects(pool.query({ text: 'SELECT 1', deadline: { atMs: performance.now() + 50, signal: new AbortController().signal } } as TunedQueryConfig), { code: 'ORI_POOL_CHECKOUT_TIMEOUT', cause: { code: 'ORI_POOL_CONNECT_TIMEOUT' } }, what)
    if (what !== 'a function for the password') continue
    hangs = false
    for (const answer of late) answer()
    await until('it answers', () => pool.query('SELECT 1').then(() => true, () => false))
  }
})

t.test('only what excludes each other is refused, by name', async t => {
  const refused: ReadonlyArray<readonly [PoolTuningOptions, RegExp]> = [
    [{ connectionString: 'postgres://h/d', client: { connectionString: 'postgres://h/d' } }, /"connectionString" and "client\.connectionString" exclude each other/],
    [{ connectionString: 'postgres://h/d?sslnegotiation=direct', client: { ssl: false } }, /sslnegotiation=direct, and "ssl" beside it is false: they exclude each other/],
    [{ connectionString: 'postgres://h/d?sslrootcert=system&sslmode=no-verify' }, /sslrootcert=system and sslmode=no-verify, which exclude each other/],
    [{ connectionString: 'postgres://h/d?sslrootcert=system&sslmode=disable' }, /sslrootcert=system and sslmode=disable, which exclude each other/]
  ]
  for (const [options, message] of refused) t.throws(() => new DatabaseConnectionOptimizer(options), { message })
})

t.test('TLS: a certificate beside the string wins over its sslmode, the roots are those that are named, and a certificate that is not accepted is a refusal', async t => {
  const { server, authority, folder } = await tlsServer(t)
  const url = server.url()
  const file = join(folder, 'authority.pem')
  const other = makeCertificate({ commonName: 'somebody else' })
  const accepted: ReadonlyArray<readonly [string, pg.ClientConfig, boolean]> = [
    [`${url}?sslmode=require`, { ssl: { ca: authority.certificate } }, true],
    [`${url}?sslmode=disable`, { ssl: { ca: authority.certificate } }, true],
    [`${url}?sslmode=verify-full&sslrootcert=${file}`, {}, true],
    [`${url}?sslmode=verify-full&sslrootcert=${file}`, { ssl: false }, false],
    [`${url}?sslmode=no-verify`, {}, true]
  ]
  const direct = `${url.replace('127.0.0.1', 'localhost')}?sslmode=require&sslrootcert=${file}&sslnegotiation=direct`
  for (const [connectionString, client, ssl] of accepted) {
    const { optimizer } = optimizerOf(t, { connectionString, client })
    t.match((await optimizer.pool.query(session)).rows, [{ ssl }], `${connectionString.split('?')[1]} ${Object.keys(client).join()}`)
  }
  const { optimizer } = optimizerOf(t, { connectionString: direct })
  if (postgresMajor() >= 17) t.match((await optimizer.pool.query(session)).rows, [{ ssl: true }], 'direct')
  else await t.rejects(optimizer.pool.query(session), { code: 'ECONNRESET' }, 'PostgreSQL speaks TLS from the first byte since 17')
  const refused: ReadonlyArray<readonly [string, pg.ClientConfig, string]> = [
    [`${url}?sslmode=verify-full`, {}, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
    [`${url}?sslmode=verify-full&sslrootcert=system`, {}, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
    [`${url}?sslmode=require&sslrootcert=${file}`, { ssl: { ca: other.certificate } }, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE']
  ]
  for (const [connectionString, client, code] of refused) {
    const { optimizer, lines } = optimizerOf(t, { connectionString, client })
    await optimizer.start()
    t.match(lines, [{ level: 'error', message: new RegExp(`refuses: the certificate of the server, or ours, is not accepted \\(${code}`) }], code)
    t.match(await optimizer.health(), { status: 'unhealthy', reason: new RegExp(`certificate.*${code}`) })
  }
})

t.test('sslrootcert=system means the roots that Node.js trusts, and verifies by them', async t => {
  const { server, folder } = await tlsServer(t)
  const ask = async (query: string, roots: string): Promise<string> => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', `
      import { DatabaseConnectionOptimizer } from '@orientor/pool-tuning/core'
      const optimizer = new DatabaseConnectionOptimizer({ connectionString: ${JSON.stringify(server.url())} + ${JSON.stringify(query)}, environment: {}, minConnections: 0, tries: 1 })
      await optimizer.pool.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()').then(({ rows }) => { console.log('ssl ' + rows[0].ssl) }, error => { console.log(error.code) })
      await optimizer.close()
    `], { cwd: fileURLToPath(new URL('..', import.meta.url)), stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, NODE_EXTRA_CA_CERTS: roots } })
    let output = ''
    for await (const chunk of child.stdout) output += String(chunk)
    return output.trim()
  }
  const roots = join(folder, 'authority.pem')
  for (const query of ['?sslrootcert=system', '?sslmode=verify-full&sslrootcert=system', '?sslrootcert=system&sslmode=require', '?uselibpqcompat=true&sslmode=require&sslrootcert=system']) {
    t.equal(await ask(query, roots), 'ssl true', query)
    t.equal(await ask(query, ''), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', query)
  }
})

t.test('a connection string that cannot be used is refused for what it is, without showing it', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'orientor-files-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  const [one, two] = [makeCertificate({ commonName: 'one' }), makeCertificate({ commonName: 'two' })]
  const files = { 'text.pem': 'no certificate', 'one.pem': one.certificate, 'one.key': one.key, 'two.key': two.key, 'closed.pem': one.certificate }
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  chmodSync(join(folder, 'closed.pem'), 0)
  const path = (name: string): string => join(folder, name)
  const at = 'postgres://u:hunter2@h/d'
  const flaws: ReadonlyArray<readonly [string, RegExp]> = [
    [`${at}?sslmode=verify-full&sslrootcert=${path('none.pem')}`, new RegExp(`a file that cannot be read: sslrootcert=${path('none.pem')} \\(ENOENT\\)`)],
    [`${at}?sslcert=${path('none.pem')}&sslkey=${path('one.key')}`, /a file that cannot be read: sslcert=.*none\.pem \(ENOENT\)/],
    [`${at}?sslcert=${path('one.pem')}&sslkey=${path('none.key')}`, /sslkey=.*none\.key \(ENOENT\)/],
    [`${at}?sslrootcert=${folder}`, /sslrootcert=.* \(EISDIR\)/],
    [`${at}?sslrootcert=${path('text.pem')}`, /holds no certificate: sslrootcert=.*text\.pem.*PEM/],
    [`${at}?sslcert=${path('one.pem')}&sslkey=${path('two.key')}`, /cannot be used: sslcert=.*one\.pem, sslkey=.*two\.key.*belong together/],
    [`${at}?uselibpqcompat=true&sslmode=verify-ca`, /refused by node-postgres: .*sslrootcert/],
    [`${at}?sslnegotiation=odd`, /refused by node-postgres: Invalid sslnegotiation/],
    ['postgres://u:hunter2@h1:5432,h2:5433/d', /several hosts.*primary/],
    ['postgres://u:hun,ter2@h1,h2/d?target_session_attrs=read-write', /several hosts/],
    ['postgres://u:hunter2@/d?host=h1,h2', /several hosts/],
    ['mysql://u:hunter2@h/d', /does not begin with postgres/],
    ['postgres://u:hun#ter2@h/d', /bare "#".*%23/],
    ['postgres://u:hunter2@h:99999/d', /cannot be parsed.*percent-encoded/],
    // Nothing is closed to root.
    ...process.getuid?.() === 0 ? [] : [[`${at}?sslrootcert=${path('closed.pem')}`, /closed\.pem \(EACCES\)/] as const]
  ]
  for (const [connectionString, message] of flaws) {
    let error: Error | null = null
    try {
      optimizerOf(t, { connectionString })
    } catch (thrown) {
      error = thrown as Error
    }
    t.match(error, { code: 'ORI_POOL_INVALID_CONNECTION_STRING', message }, String(message))
    t.notMatch(`${error?.message} ${error?.stack} ${String(error?.cause)}`, /hun[,#]?ter2/)
  }
  t.doesNotThrow(() => new DatabaseConnectionOptimizer({ connectionString: 'postgres://u:hun,ter2@h/d', environment: {} }), 'a comma in a password names no hosts')
  t.throws(() => new DatabaseConnectionOptimizer({ client: { port: 99_999 }, environment: {} }), { message: /port/ })
})

t.test('a start that fails says why, in the words of whoever said so', async t => {
  const { url, server } = await testDatabase(t)
  const wrong = new URL(url)
  wrong.password = 'hunter2'
  const reasons: ReadonlyArray<readonly [string, Line['level'], RegExp]> = [
    [server.url('nowhere'), 'error', /refuses: the database does not exist \(3D000: database "nowhere" does not exist\)\. Create it/],
    [wrong.href, 'error', /refuses: the password of the role is not accepted \(28P01: password authentication failed for user "postgres"\)\. Give/],
    [`${url}?sslmode=require`, 'error', /refuses: the server speaks no TLS.*sslmode=disable/],
    ['postgres://u:hunter2@127.0.0.1:1/d', 'warn', /127\.0\.0\.1:1 cannot be reached yet: connect ECONNREFUSED 127\.0\.0\.1:1\./],
    ['postgres://u:hunter2@nowhere.invalid/d', 'warn', /cannot be reached yet: getaddrinfo E\w+ nowhere\.invalid\./]
  ]
  for (const [connectionString, level, message] of reasons) {
    const { optimizer, lines } = optimizerOf(t, { connectionString })
    await optimizer.start()
    t.match(lines, [{ level, message }])
    t.notMatch(JSON.stringify(lines), /hunter2/)
    const { optimizer: failing } = optimizerOf(t, { connectionString, failFast: true })
    await t.rejects(failing.start(), { code: 'ORI_POOL_UNREACHABLE', message })
  }
  const { optimizer } = optimizerOf(t, { connectionString: server.url('nowhere') })
  t.match(await optimizer.health(), { status: 'unhealthy', reason: 'PostgreSQL refuses: the database does not exist (3D000)' })
})

t.test('a schema that is named as Prisma does is told, with what to write', async t => {
  const { url } = await testDatabase(t)
  for (const [query, told] of [['?schema=app', true], ['?schema=public', false], ['?schema=', false], ['', false]] as const) {
    const { optimizer, lines } = optimizerOf(t, { connectionString: `${url}${query}` })
    await optimizer.start()
    t.match(lines, told ? [{ level: 'warn', message: /"schema", which Prisma reads and node-postgres does not.*options=-c%20search_path%3Dapp/ }] : [], query)
  }
  const { optimizer } = optimizerOf(t, { connectionString: `${url}?options=-c%20search_path%3Dapp` })
  t.match((await optimizer.pool.query('SHOW search_path')).rows, [{ search_path: 'app' }], 'which works')
})

t.test('a file of a certificate is read anew for every connection, and missed for a moment only', async t => {
  const { server, authority, folder } = await tlsServer(t)
  const file = join(folder, 'renewed.pem')
  writeFileSync(file, makeCertificate({ commonName: 'somebody else' }).certificate)
  const { optimizer } = optimizerOf(t, { connectionString: `${server.url()}?sslmode=verify-full&sslrootcert=${file}` })
  await t.rejects(optimizer.pool.query('SELECT 1'), { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' })
  rmSync(file)
  await t.rejects(optimizer.pool.query('SELECT 1'), { code: 'ORI_POOL_INVALID_CONNECTION_STRING', databaseFailure: 'unsent' })
  writeFileSync(file, authority.certificate)
  t.match((await optimizer.pool.query(session)).rows, [{ ssl: true }])
})
