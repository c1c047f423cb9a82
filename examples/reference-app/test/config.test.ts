import { readFileSync } from 'node:fs'
import t from 'tap'
import { ConfigError, readConfig } from '../src/config.js'
import { retired, variables } from '../src/variables.js'

const webhookSecret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const otherWebhookSecret = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD'

function problemsOf (environment: Record<string, string>): readonly string[] {
  try {
    readConfig(environment)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

t.test('An empty environment means the embedded database, the simulator, and the defaults of the plugins', async t => {
  const config = readConfig({})
  t.match(config, { host: '127.0.0.1', port: 3000, databaseUrl: null, bellUrl: null, provider: null, adminKey: null, poolEnvironment: {} })
  t.strictSame(config.cache, { expireAfterMs: undefined, maxEntries: undefined, cleanupIntervalMs: undefined, staleIfErrorMs: undefined })
  t.equal(config.forceSyncAfterMs, undefined)
  t.ok([config, config.cache, config.poolEnvironment].every(part => Object.isFrozen(part)))
})

t.test('Every variable reaches its place in the configuration', async t => {
  t.strictSame(readConfig({
    HOST: '0.0.0.0',
    PORT: '0',
    LOG_LEVEL: 'debug',
    DATABASE_URL: 'postgresql://ann:s%2Fcret@db.example.com/app?sslmode=require',
    PG_PRESET: 'railway',
    RAILWAY_POOL_SIZE: '4',
    NODE_ENV: 'production',
    DEV_ECHO_SQL: 'true',
    ISSUER: 'https://clerk.example.com',
    JWKS_URL: 'http://127.0.0.1:4010/.well-known/jwks.json',
    AUDIENCE: 'a, b',
    AUTHORIZED_PARTIES: 'https://app.example.com,http://localhost:5173, my-client-id,urn:client:7,0oa1b2C3.d_4',
    ALGORITHMS: 'RS256, ES256',
    CLERK_API_URL: 'https://api.clerk.com',
    CLERK_SECRET_KEY: 'sk_test_x',
    CLERK_WEBHOOK_SECRETS: `${webhookSecret}, ${otherWebhookSecret}`,
    CLERK_INSTANCE_ID: 'ins_2abc',
    MAX_STALENESS_MS: '2000',
    POLL_INTERVAL_MS: '100',
    POLL_TIMEOUT_MS: '800',
    BELL_URL: 'rediss://ann:s%2Fcret@redis.example.com:6380',
    STALE_IF_ERROR_MS: '0',
    SESSION_EXPIRE_AFTER_MS: '1000',
    SESSION_MAX_ENTRIES: '5',
    SESSION_CLEANUP_INTERVAL_MS: '200',
    FORCE_SYNC_AFTER_MS: '3000',
    ADMIN_KEY: 'thirty-two-or-more-characters-long'
  }), {
    host: '0.0.0.0',
    port: 0,
    logLevel: 'debug',
    databaseUrl: 'postgresql://ann:s%2Fcret@db.example.com/app?sslmode=require',
    poolPreset: 'railway',
    poolEnvironment: { RAILWAY_POOL_SIZE: '4', DEV_ECHO_SQL: 'true', NODE_ENV: 'production' },
    provider: {
      issuer: 'https://clerk.example.com',
      jwksUrl: 'http://127.0.0.1:4010/.well-known/jwks.json',
      audience: ['a', 'b'],
      authorizedParties: ['https://app.example.com', 'http://localhost:5173', 'my-client-id', 'urn:client:7', '0oa1b2C3.d_4'],
      algorithms: ['RS256', 'ES256'],
      apiUrl: 'https://api.clerk.com',
      secretKey: 'sk_test_x',
      webhookSecrets: [webhookSecret, otherWebhookSecret],
      instanceId: 'ins_2abc'
    },
    cache: { expireAfterMs: 1000, maxEntries: 5, cleanupIntervalMs: 200, staleIfErrorMs: 0 },
    bus: { maxStalenessMs: 2000, pollIntervalMs: 100, pollTimeoutMs: 800 },
    bellUrl: 'rediss://ann:s%2Fcret@redis.example.com:6380',
    forceSyncAfterMs: 3000,
    adminKey: 'thirty-two-or-more-characters-long'
  })
})

t.test('A value that breaks its rule is refused with the variable, the rule, what was received and what to write', async t => {
  const cases: ReadonlyArray<readonly [name: keyof typeof variables, ...values: readonly string[]]> = [
    ['HOST', 'http://localhost', 'a b', ''],
    ['PORT', '80a', '-1', '65536', '3e3', ' 3000', ''],
    ['LOG_LEVEL', 'verbose', 'INFO', ''],
    ['DATABASE_URL', 'localhost:5432/app', 'mysql://a@b/c', 'postgres://ann:p#ss@host/app', 'postgres://ann:p%ss@host/app', 'postgres://host', 'postgres://ann:p ss@host/app', ''],
    ['PG_PRESET', 'prod', ''],
    ['RAILWAY_POOL_SIZE', '0', 'three'],
    ['RAILWAY_MAX_OVERFLOW', '-1', ''],
    ['RAILWAY_POOL_TIMEOUT', '20s', '0', '20000'],
    ['PRODUCTION_POOL_SIZE', '1.5'],
    ['PRODUCTION_MAX_OVERFLOW', 'x'],
    ['PRODUCTION_POOL_RECYCLE', '7200000', '10'],
    ['DEV_POOL_SIZE', '1001'],
    ['DEV_MAX_OVERFLOW', 'none'],
    ['DEV_ECHO_SQL', '1', 'yes', 'TRUE'],
    ['ISSUER', 'clerk.example.com', 'http://clerk.example.com', 'https://user:secret@clerk.example.com', 'https://clerk.example.com?x=1', ''],
    ['MAX_STALENESS_MS', '0', '5s'],
    ['POLL_INTERVAL_MS', '19', '-200', '0.2', 'often', ''],
    ['POLL_TIMEOUT_MS', '0', '2147483648'],
    ['BELL_URL', 'localhost:6379', 'http://redis.example.com', 'redis://', 'redis://ann:p%ss@host', 'postgres://host', 'amqp://host', ''],
    ['STALE_IF_ERROR_MS', '-5', '15m'],
    ['SESSION_EXPIRE_AFTER_MS', '0', '2147483648', 'Infinity'],
    ['SESSION_MAX_ENTRIES', '0', '10k'],
    ['SESSION_CLEANUP_INTERVAL_MS', '0'],
    ['FORCE_SYNC_AFTER_MS', '1h'],
    ['ADMIN_KEY', 'short', 'a key of thirty-two characters with blanks', '']
  ]
  for (const [name, ...values] of cases) {
    for (const value of values) {
      const [problem = '', ...more] = problemsOf({ [name]: value })
      t.strictSame(more, [], `${name}=${value}`)
      t.ok(problem.startsWith(`${name} must be ${variables[name].rule.must}; received `), problem)
      t.ok(problem.endsWith(`. Write for example ${name}=${variables[name].example}`), problem)
    }
  }
  const issuer = { ISSUER: 'https://clerk.example.com', CLERK_SECRET_KEY: 'sk_test_x' }
  const withIssuer: ReadonlyArray<readonly [name: keyof typeof variables, ...values: readonly string[]]> = [
    ['JWKS_URL', 'x'],
    ['AUDIENCE', 'a,,b'],
    ['AUTHORIZED_PARTIES', 'https://app.example.com/', 'a b', 'a,'],
    ['ALGORITHMS', 'HS256', 'rs256', 'RS256,none'],
    ['CLERK_API_URL', 'https://api.clerk.com/v1'],
    ['CLERK_SECRET_KEY', 'pk_test_x'],
    ['CLERK_WEBHOOK_SECRETS', '', 'whsec_', 'whsec_c2hvcnQ=', `${webhookSecret},`, `${webhookSecret} ${otherWebhookSecret}`],
    ['CLERK_WEBHOOK_SECRETS', webhookSecret.slice(6), `sk_${webhookSecret}`]
  ]
  for (const [name, value] of withIssuer.flatMap(([name, ...values]) => values.map(value => [name, value] as const))) {
    t.match(problemsOf({ ...issuer, [name]: value }), [new RegExp(`^${name} must be .*; received .*\\. Write for example ${name}=`)])
  }
  for (const value of ['', '2abc', 'ins_', 'ins_a b']) {
    const problems = problemsOf({ ...issuer, CLERK_WEBHOOK_SECRETS: webhookSecret, CLERK_INSTANCE_ID: value })
    t.match(problems, [/^CLERK_INSTANCE_ID must be .*; received /])
  }
  t.equal(problemsOf({ PORT: '80a' })[0], 'PORT must be a whole number from 0 to 65535; received "80a". Write for example PORT=3000')
})

t.test('All problems are told at once', async t => {
  t.throws(() => readConfig({ PORT: 'x', PG_PRESET: 'y', HEARTBEAT_INTERVAL_MS: '5' }), {
    name: 'ConfigError',
    message: /^The configuration has 3 problems:\n {2}HEARTBEAT_INTERVAL_MS .*\n {2}PORT .*\n {2}PG_PRESET .*$/
  })
  t.throws(() => readConfig({ PORT: 'x' }), { message: /^The configuration has a problem:\n {2}PORT / })
})

t.test('The value of a secret is never shown', async t => {
  const secrets = {
    DATABASE_URL: 'mysql://ann:Hunter2@db/app',
    BELL_URL: 'amqp://ann:Hunter2@bell',
    ISSUER: 'https://clerk.example.com',
    CLERK_SECRET_KEY: 'Hunter2',
    CLERK_WEBHOOK_SECRETS: `${webhookSecret},whsec_Hunter2`,
    ADMIN_KEY: 'Hunter2'
  }
  const problems = problemsOf(secrets)
  t.equal(problems.length, 5)
  t.notMatch(problems.join(), webhookSecret)
  t.notMatch(problems.join(), /Hunter2/)
  t.match(problems.join(), /ADMIN_KEY must be .* received a string of 7 characters/)
})

t.test('A variable of an earlier version is refused, with what has come in its place', async t => {
  for (const name of Object.keys(retired)) {
    t.match(problemsOf({ [name]: '1000' }), [new RegExp(`^${name} is not read any more: .*\\. Remove it\\.$`)])
  }
  t.equal(problemsOf({ HEARTBEAT_INTERVAL_MS: '1000' })[0], 'HEARTBEAT_INTERVAL_MS is not read any more: POLL_INTERVAL_MS says how often changes are polled for. Remove it.')
})

t.test('A variable that would have no effect beside the others is refused', async t => {
  for (const [name, value] of [['JWKS_URL', 'https://a.example/jwks'], ['AUDIENCE', 'a'], ['AUTHORIZED_PARTIES', 'https://a.example'], ['ALGORITHMS', 'RS256'], ['CLERK_API_URL', 'https://a.example'], ['CLERK_SECRET_KEY', 'sk_x'], ['CLERK_WEBHOOK_SECRETS', webhookSecret]] as const) {
    t.match(problemsOf({ [name]: value }), [new RegExp(`^${name} is set but ISSUER is not: .*Set ISSUER too, or remove ${name}\\.$`)])
  }
  t.match(problemsOf({ ISSUER: 'https://a.example', CLERK_API_URL: 'https://b.example' }), [/^CLERK_API_URL is set but CLERK_SECRET_KEY is not: /])
  const alone = problemsOf({ ISSUER: 'https://a.example', CLERK_INSTANCE_ID: 'ins_1' })
  t.match(alone, [/^CLERK_INSTANCE_ID is set but CLERK_WEBHOOK_SECRETS is not: .*, or remove CLERK_INSTANCE_ID\.$/])
  t.strictSame(problemsOf({ ISSUER: 'https://a.example' }), [])
})

t.test('.env.example lists exactly the variables that the app knows, each once and commented out', async t => {
  const lines = readFileSync(new URL('../.env.example', import.meta.url), 'utf8').split('\n')
  const listed = lines.flatMap(line => /^#([A-Z][A-Z_]+)=/.exec(line)?.[1] ?? [])
  t.strictSame([...listed].sort(), Object.keys(variables).sort())
  t.strictSame(lines.filter(line => line !== '' && !line.startsWith('#')), [], 'a copy of the file changes nothing')
})
