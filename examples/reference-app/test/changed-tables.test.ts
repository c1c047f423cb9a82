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
  'a column more': 'ALTER TABLE users ADD COLUMN plan text NOT NULL DEFAULT \'free\''
}

interface Load { readonly answers: readonly Answer[], readonly failed: readonly Answer[], readonly service: Service }

/** The requests around a change that is made under load with every connection in use: 100 answered before, 300 after, whatever the machine's pace. */
async function changeUnderLoad (t: Test, change: string, source: SourceKind, stock: boolean): Promise<Load> {
  const { url } = await testDatabase(t)
  const operator = new pg.Client({ connectionString: url })
  await operator.connect()
  t.teardown(() => operator.end())
  if (source !== 'smart-sync') await operator.query(ownTableSql(users.length))
  const pool = new pg.Pool({ connectionString: url, max: 8 })
  t.teardown(() => pool.end())
  const service = await startService(t, { source, url, expireAfterMs: 100, listenUrl: url, ...stock ? { pool } : { tuning: { size: 8, overflow: 0 } } })
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
