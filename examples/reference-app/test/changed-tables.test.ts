import { readFileSync } from 'node:fs'
import { testDatabase, until } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { askFor, ownTableSql, startService, type Answer, type Service, type SourceKind } from './fixtures/service.js'

const users = Array.from({ length: 50 }, (_, number) => `user-${number}`)
const recipe = /### Migrations[\s\S]*?```sql\n([\s\S]*?)```/.exec(readFileSync(new URL('../../../docs/coherence.md', import.meta.url), 'utf8'))![1]!

const changes: Readonly<Record<string, string>> = {
  'the recipe of docs/coherence.md': recipe,
  'a swap of tables': `BEGIN;
    ALTER TABLE users RENAME TO users_before;
    CREATE TABLE users (LIKE users_before INCLUDING ALL);
    INSERT INTO users OVERRIDING SYSTEM VALUE SELECT * FROM users_before;
    ALTER TABLE users ALTER COLUMN first_name TYPE varchar(200);
    DO $$ BEGIN
      IF to_regproc('users_next_revision') IS NOT NULL THEN
        CREATE TRIGGER zz_users_revision BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION users_next_revision();
      END IF;
    END $$;
    COMMIT;`,
  'a column in place of another': `BEGIN;
    ALTER TABLE users RENAME COLUMN first_name TO first_name_before;
    ALTER TABLE users ADD COLUMN first_name varchar(320);
    UPDATE users SET first_name = first_name_before;
    COMMIT`
}

/** Triggers of an app, under names that look like ours, and what of each is to be kept. */
const alike = `CREATE TABLE audit (what text);
  CREATE FUNCTION note () RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (TG_NAME); IF TG_WHEN = 'AFTER' THEN RETURN NULL; END IF; RETURN NEW; END $$;
  CREATE FUNCTION audit_next_revision () RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (TG_NAME || TG_ARGV[0]); RETURN NULL; END $$;
  CREATE TRIGGER zz_audit_revision AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note();
  CREATE TRIGGER zz_users_audit_revision AFTER UPDATE OF last_name ON users FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION audit_next_revision(' with an argument');
  CREATE TRIGGER zz_new_revision BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION note();
  CREATE TRIGGER orientor_outbox_0123456789ab_row AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note();
  CREATE TRIGGER orientor_0123456789ab_0_row AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note()`
const triggers = "SELECT tgname, pg_get_triggerdef(oid) AS definition, tgenabled FROM pg_trigger WHERE tgrelid = 'users'::regclass AND tgfoid IN ('note'::regproc, 'audit_next_revision'::regproc) ORDER BY tgname"

t.test('the recipe of docs/coherence.md leaves triggers of the app as they are, whatever they are called', async t => {
  const { url } = await testDatabase(t)
  const operator = await operatorAt(t, url)
  const service = await startService(t, { source: 'smart-sync', url, expireAfterMs: 100, withBus: true })
  t.equal((await service.ask('user-0')).status, 200)
  await operator.query(alike)
  const before = (await operator.query(triggers)).rows as object[]
  await operator.query(recipe)
  t.equal(before.length, 5)
  t.strictSame((await operator.query(triggers)).rows, before)
  const { rowCount } = await operator.query("UPDATE users SET email = 'a@b.c', last_name = 'B'")
  t.equal(rowCount, 1)
  t.match((await operator.query('SELECT email, revision FROM users')).rows, [{ email: 'a@b.c', revision: '2' }], 'and ours counts on')
  t.strictSame((await operator.query('SELECT what FROM audit ORDER BY what')).rows, ['orientor_0123456789ab_0_row', 'orientor_outbox_0123456789ab_row', 'zz_audit_revision', 'zz_users_audit_revision with an argument'].map(what => ({ what })))
})

/** A connection past the service; that its database is dropped at the end is no error. */
async function operatorAt (t: Test, url: string): Promise<pg.Client> {
  const operator = new pg.Client({ connectionString: url })
  operator.on('error', () => {})
  await operator.connect()
  t.teardown(() => operator.end())
  return operator
}

interface Load { readonly answers: readonly Answer[], readonly failed: readonly Answer[], readonly service: Service }

/** The requests around a change that is made under load with every connection in use: 100 answered before, 300 after, whatever the machine's pace. */
async function changeUnderLoad (t: Test, change: string, source: SourceKind, stock: boolean): Promise<Load> {
  const { url } = await testDatabase(t)
  const operator = await operatorAt(t, url)
  if (source !== 'smart-sync') await operator.query(ownTableSql(users.length))
  const pool = new pg.Pool({ connectionString: url, max: 8 })
  pool.on('error', () => {})
  pool.on('connect', client => { client.on('error', () => {}) })
  t.teardown(() => pool.end())
  const service = await startService(t, { source, url, expireAfterMs: 100, withBus: true, ...stock ? { pool } : { tuning: { size: 8, overflow: 0 } } })
  for (const user of users) t.equal((await service.ask(user)).status, 200)
  const load = askFor(service, users, 5)
  await until('100 answers before the change', () => load.answered() >= 100, 60_000)
  await operator.query(change)
  const before = load.answered()
  await until('300 answers after the change', () => load.answered() >= before + 300, 60_000)
  const answers = await load.stop()
  return { answers, failed: answers.filter(({ status }) => status !== 200), service }
}

for (const [what, change] of Object.entries(changes)) {
  for (const [source, stock] of [['smart-sync', false], ['smart-sync', true], ['tableSource()', false], ['tableSource()', true]] as const) {
    t.test(`${what}, under load, fails no request of ${source} on ${stock ? 'a stock pool' : 'a tuned pool'}`, async t => {
      const { answers, failed, service } = await changeUnderLoad(t, change, source, stock)
      t.comment(JSON.stringify({ injected: what, seen: `${answers.length} requests`, reached: `${failed.length} failed` }))
      t.ok(answers.length >= 400)
      t.strictSame(failed, [])
      await until('the bus is trusted', async () => (await service.health('sessionCache')).status === 'healthy')
    })
  }
}
