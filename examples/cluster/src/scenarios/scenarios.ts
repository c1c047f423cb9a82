import { setTimeout as pause } from 'node:timers/promises'
import { until, type PostgresFaults, type PostgresServer } from '@orientor/test-kit'
import { sessionKey, sessionKeyHash } from '@orientor/session-contract'
import pg from 'pg'
import { plainly, updateOf, warmUp, type InstanceProcess } from '../harness/index.js'
import type { Injected, Scenario, Stage } from './scenario.js'
import { burnTransactions, catchUp, promote, xmaxOf } from './takeover.js'
import { crowdSize, impatiently, inTwoPhases, leftOpen, makeCrowd, some, withCrowd } from './writes.js'

const hourMs = 3_600_000
const nothing = async (): Promise<void> => {}

/** The session of the struck instance that polls, where it has a way of its own. */
async function pollBackend ({ faults, member }: Stage): Promise<number> {
  const text = 'SELECT pid FROM pg_stat_activity WHERE client_port = ANY ($1::int[])'
  const { rows: [row] } = await faults.sql<{ pid: number }>(text, [member.bus.serverPorts])
  if (row === undefined) throw new Error(`instance ${member.process.name} has no session that polls`)
  return row.pid
}

const dropTriggers = `DO $drop$
DECLARE
  found record;
BEGIN
  FOR found IN
    SELECT t.tgname AS name, t.tgrelid::regclass AS of FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = 'users'::regclass AND p.proname LIKE 'orientor\\_%'
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', found.name, found.of);
  END LOOP;
END
$drop$`

/** A column that is nothing to the cache, and a trigger that makes a name of it. */
const grantWishes = `ALTER TABLE users ADD COLUMN IF NOT EXISTS wish text;
CREATE OR REPLACE FUNCTION grant_wish() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.first_name := NEW.wish; RETURN NEW; END $$;
CREATE TRIGGER grant_wish BEFORE UPDATE OF wish ON users FOR EACH ROW EXECUTE FUNCTION grant_wish()`

async function clockShift ({ member: { process } }: Stage, ms: number): Promise<Injected> {
  process.tell({ kind: 'shift clock', ms })
  return { what: `wall clock of one instance ${ms / hourMs} h`, heal: async () => { process.tell({ kind: 'shift clock', ms: 0 }) } }
}

/** Kills one session with SIGKILL; resolves when the server has recovered. */
async function crash (faults: PostgresFaults, server: PostgresServer): Promise<void> {
  const victim = new pg.Client({ connectionString: server.url() })
  victim.on('error', () => {})
  await victim.connect()
  faults.killBackend((await victim.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid)
  await pause(50)
  await faults.ready()
}

/** Leaves a transaction open on the connection that polls, every half second. */
function leaveAgain (process: InstanceProcess, sql: string, what: string): Injected {
  const leave = (): void => { process.tell({ kind: 'run', sql }) }
  leave()
  const timer = setInterval(leave, 500)
  return {
    what: `the connection that polls is left in ${what}, again and again`,
    heal: async () => { clearInterval(timer) }
  }
}

/**
 * Removes what the last snapshot of the outbox saw and takes another one, as if the changes had been kept for long
 * enough.
 */
export async function prune (faults: PostgresFaults): Promise<void> {
  const text = "SELECT oid::regproc::text AS name FROM pg_proc WHERE proname ~ '^orientor_outbox_check_in_'"
  const { rows: [row] } = await faults.sql<{ name: string }>(text)
  await faults.sql(`UPDATE orientor_outbox_horizon SET taken_at = taken_at - interval '1 hour';
    SELECT ${row!.name}('00000000-0000-4000-8000-000000000000', '{}')`)
}

/** Every fault that the bound has to hold under. */
export const scenarios = {
  calm: {
    name: 'calm', durationMs: 4000, trust: 'kept', healsItself: true, inject: async () => ({ what: 'nothing', heal: nothing })
  },
  halfOpenPoll: {
    name: 'half-open polls',
    hearing: 'own',
    durationMs: 4000,
    trust: 'lost',
    healsItself: true,
    async inject ({ member: { bus } }) {
      bus.silence()
      return { what: 'the polling connection of one instance is half-open', heal: nothing }
    }
  },
  deafPoll: {
    name: 'half-open polls in one direction',
    hearing: 'own',
    durationMs: 4000,
    trust: 'lost',
    healsItself: true,
    async inject ({ member: { bus } }) {
      bus.silence('to client')
      return { what: 'one instance is heard, and hears nothing', heal: nothing }
    }
  },
  droppedPoll: {
    name: 'dropped polls',
    hearing: 'own',
    durationMs: 3000,
    trust: 'lost',
    async inject ({ member: { bus } }) {
      bus.mode = 'refuse'
      bus.reset()
      return {
        what: 'the polling connection of one instance is cut and refused',
        heal: async () => { bus.mode = 'pass' }
      }
    }
  },
  frozenPollBackend: {
    name: 'frozen polling backend',
    hearing: 'own',
    durationMs: 5000,
    trust: 'lost',
    healsItself: true,
    async inject (stage) {
      const frozen = stage.faults.freeze(await pollBackend(stage))
      return { what: 'the polling backend of one instance is stopped (SIGSTOP)', heal: () => frozen.heal() }
    }
  },
  partition: {
    name: 'partition',
    durationMs: 10_000,
    trust: 'lost',
    async inject ({ member: { pool, bus } }) {
      pool.mode = bus.mode = 'stall'
      return {
        what: 'one instance is cut off from the database; what is under way arrives late',
        heal: async () => { pool.mode = bus.mode = 'pass' }
      }
    }
  },
  killPostgres: {
    name: 'kill -9 of Postgres',
    durationMs: 4000,
    trust: 'lost',
    async inject ({ faults }) {
      const killed = await faults.killCluster()
      return { what: 'every process of PostgreSQL killed, started again later', heal: () => killed.heal() }
    }
  },
  terminateAll: {
    name: 'terminate all every 500 ms',
    durationMs: 6000,
    // A poll that meets it is sent again on another connection.
    trust: 'open',
    async inject ({ faults }) {
      const terminating = faults.terminateEvery(500)
      return { what: 'every session terminated every 500 ms', heal: () => terminating.heal() }
    }
  },
  stoppedInstance: {
    name: 'SIGSTOP of an instance',
    durationMs: 5000,
    trust: 'open',
    async inject ({ member: { process } }) {
      process.freeze()
      return { what: 'one instance stopped (SIGSTOP)', heal: async () => { process.thaw() } }
    }
  },
  clockForth: { name: 'wall clock one hour forth', durationMs: 5000, trust: 'open', inject: stage => clockShift(stage, hourMs) },
  clockBack: { name: 'wall clock one hour back', durationMs: 5000, trust: 'open', inject: stage => clockShift(stage, -hourMs) },
  stalledLoop: {
    name: 'event loop stalled',
    durationMs: 3000,
    trust: 'open',
    async inject ({ member: { process } }) {
      process.tell({ kind: 'stall', ms: 3000 })
      return { what: 'the event loop of one instance stalled 3 s', heal: nothing }
    }
  },
  droppedTrigger: {
    name: 'triggers dropped',
    durationMs: 3000,
    trust: 'lost',
    healsItself: true,
    async inject ({ faults }) {
      await faults.sql(dropTriggers)
      return { what: 'the triggers that announce are dropped', heal: nothing }
    }
  },
  droppedTriggerSurveyed: {
    name: 'triggers dropped where many instances poll',
    durationMs: 3000,
    trust: 'lost',
    healsItself: true,
    async prepare ({ faults }) {
      // From nine instances on one makes the digest of what announces for all; they count themselves every ten seconds.
      await faults.sql(`INSERT INTO orientor_outbox_instances
        SELECT gen_random_uuid(), now() + interval '1 hour', '{}' FROM generate_series(1, 10)`)
      await pause(11_500)
    },
    async inject ({ faults }) {
      await faults.sql(dropTriggers)
      return { what: 'the triggers that announce are dropped, which one instance looks at for all', heal: nothing }
    }
  },
  droppedTriggerAgain: {
    name: 'triggers dropped again and again',
    durationMs: 6000,
    trust: 'lost',
    async inject ({ faults }) {
      // What is dropped meets what is put in place again: one of the two may have to give way.
      const dropping = setInterval(() => { faults.sql(dropTriggers).catch(() => {}) }, 300)
      return { what: 'the triggers that announce are dropped every 300 ms', heal: async () => { clearInterval(dropping) } }
    }
  },
  otherTrigger: {
    name: 'a trigger that changes what an update does not say',
    durationMs: 4000,
    trust: 'lost',
    async inject ({ faults, writer }) {
      await faults.sql(grantWishes)
      await writer.writeWith(plainly(updateOf('wish')))
      return {
        what: 'users are changed by updates of a column that nobody watches',
        async heal () {
          await writer.writeWith(null)
          // With those that announce, so that the next round begins as this one did.
          await faults.sql(`BEGIN; DROP TRIGGER grant_wish ON users; ${dropTriggers}; COMMIT`)
        }
      }
    }
  },
  halfOpenPool: {
    name: 'half-open pool',
    durationMs: 4000,
    trust: 'lost',
    healsItself: true,
    async inject ({ member: { pool } }) {
      pool.silence()
      return {
        what: 'every connection of the pool of one instance is half-open, that of the polls among them',
        heal: nothing
      }
    }
  },
  pgBouncer: {
    name: 'everything through PgBouncer',
    durationMs: 6000,
    trust: 'kept',
    throughPgBouncer: true,
    healsItself: true,
    inject: async () => ({ what: 'polls and loads go through PgBouncer in transaction mode', heal: nothing })
  },
  terminateBehindPgBouncer: {
    name: 'terminate all behind PgBouncer',
    durationMs: 4000,
    trust: 'open',
    throughPgBouncer: true,
    async inject ({ faults }) {
      const terminating = faults.terminateEvery(500)
      return { what: 'every session of PgBouncer terminated every 500 ms', heal: () => terminating.heal() }
    }
  },
  lostBell: {
    name: 'a bell that is lost',
    durationMs: 4000,
    trust: 'kept',
    hearing: 'bell',
    async inject ({ member: { bus } }) {
      bus.silence()
      bus.mode = 'refuse'
      return { what: 'the bell of one instance is half-open, and refused', heal: async () => { bus.mode = 'pass' } }
    }
  },
  lyingBell: {
    name: 'a bell that lies',
    durationMs: 5000,
    trust: 'kept',
    hearing: 'bell',
    healsItself: true,
    async inject ({ cluster: { people: { issuer, list } }, faults }) {
      const hashes = list.map(({ subject }) => sessionKeyHash(sessionKey(issuer, subject)))
      const revisions = hashes.flatMap(hash => [`${hash} 1`, `${hash} ${Number.MAX_SAFE_INTEGER}`])
      const lies = ['*', '?', 'nonsense', ...hashes, ...revisions, hashes.join()]
      let lying = Promise.resolve()
      const timer = setInterval(() => {
        const lie = lies[Math.floor(Math.random() * lies.length)]!
        lying = lying.then(async () => { await faults.sql('SELECT pg_notify($1, $2)', ['orientor_bell', lie]) })
      }, 20)
      return {
        what: 'fifty forged rings a second: of all, of users, with revisions that are to come or long past, and nonsense',
        async heal () {
          clearInterval(timer)
          await lying
        }
      }
    }
  },
  twoPhases: {
    name: 'PREPARE TRANSACTION, COMMIT PREPARED',
    durationMs: 6000,
    trust: 'kept',
    healsItself: true,
    server: { max_prepared_transactions: '50' },
    async inject ({ writer }) {
      await writer.writeWith(some(0.5, inTwoPhases(250)))
      return {
        what: 'half of the changes are committed in two phases, a quarter of a second after each other',
        heal: () => writer.writeWith(null)
      }
    }
  },
  leftOpen: {
    name: 'transactions left open across ten polls',
    durationMs: 6000,
    trust: 'kept',
    healsItself: true,
    async inject ({ writer }) {
      await writer.writeWith(some(0.4, leftOpen(1100)))
      return {
        what: 'two of five changes are committed 1.1 s after they were made',
        heal: () => writer.writeWith(null)
      }
    }
  },
  crowd: {
    name: '5,000 rows in one statement',
    durationMs: 5000,
    trust: 'kept',
    healsItself: true,
    async prepare ({ faults }) {
      await faults.sql(makeCrowd)
    },
    async inject ({ writer }) {
      await writer.writeWith(some(0.15, withCrowd))
      return {
        what: `one of seven changes changes ${crowdSize} other users with the same statement`,
        heal: () => writer.writeWith(null)
      }
    }
  },
  lockedOutbox: {
    name: 'the outbox locked',
    durationMs: 4000,
    trust: 'kept',
    async inject ({ faults, writer }) {
      await writer.writeWith(impatiently)
      const locked = await faults.lockTable('orientor_outbox_changes', 'SHARE ROW EXCLUSIVE')
      return {
        what: 'changes cannot be noted, and wait for that no longer than 50 ms: they fail',
        async heal () {
          await locked.heal()
          await writer.writeWith(null)
        }
      }
    }
  },
  leftoverSnapshot: {
    name: 'a leftover REPEATABLE READ transaction in the pool',
    durationMs: 5000,
    trust: 'lost',
    hearing: 'borrowed',
    async inject ({ member: { process } }) {
      return leaveAgain(process, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM users', 'a REPEATABLE READ transaction')
    }
  },
  leftoverWriter: {
    name: 'a leftover transaction that has written in the pool',
    durationMs: 5000,
    trust: 'lost',
    hearing: 'borrowed',
    async inject ({ member: { process } }) {
      return leaveAgain(process, 'BEGIN; SELECT pg_current_xact_id()', 'a transaction that has an id')
    }
  },
  asynchronousCrash: {
    name: 'crash with synchronous_commit = off between two polls',
    durationMs: 2000,
    trust: 'lost',
    // Nothing but commits of the users writes the log out.
    server: { wal_writer_delay: '10s', wal_writer_flush_after: '1GB' },
    async inject ({ faults, server, cluster, writer }) {
      let ids = ''
      const keepAway = (isAway: boolean): void => {
        for (const { pool, bus } of cluster.members) {
          for (const proxy of [pool, bus]) {
            proxy.mode = isAway ? 'refuse' : 'pass'
            if (isAway) proxy.reset()
          }
        }
      }
      for (let attempts = 0; ids === ''; attempts++) {
        if (attempts === 3) throw new Error('the server had written everything out each time')
        let [before, after] = [0n, 0n]
        await writer.whileHeld(async () => {
          await burnTransactions(cluster.databaseUrl, 300)
          before = await xmaxOf(cluster.databaseUrl)
          // Every instance polls meanwhile, and not again before what it has seen is given out once more.
          await pause(300)
          keepAway(true)
          await crash(faults, server)
          after = await xmaxOf(cluster.databaseUrl)
        })
        if (after < before) ids = `${before} to ${after}`
        await pause(600)
        await burnTransactions(cluster.databaseUrl, 300)
        keepAway(false)
      }
      return {
        what: 'one backend killed (SIGKILL) after commits that were not written out; transaction ids went back, the first ' +
          `time from ${ids}, and were given out again before an instance polled`,
        heal: nothing
      }
    }
  },
  failover: {
    name: 'failover to a promoted standby',
    durationMs: 3000,
    trust: 'lost',
    isOnce: true,
    spare: 'following',
    async inject ({ cluster, server, spare, writer }) {
      await server.kill('SIGQUIT')
      await promote(spare!.url())
      cluster.leadTo(spare!.port)
      writer.moveTo(spare!.url('cluster'))
      return {
        what: 'the primary ended at once (SIGQUIT), a standby that had every commit promoted, everybody led there',
        heal: nothing
      }
    }
  },
  restoredCopy: {
    name: 'a restored copy put in place',
    durationMs: 3000,
    trust: 'lost',
    isOnce: true,
    spare: 'copy',
    async inject ({ cluster, server, spare, writer }) {
      await writer.whileHeld(async () => {
        await server.kill('SIGINT')
        await spare!.start()
        await catchUp(spare!.url('cluster'), writer.names)
        cluster.leadTo(spare!.port)
        writer.moveTo(spare!.url('cluster'))
      })
      return {
        what: 'a cold copy from before put in place, and its users brought up to date: it gives out again transaction ids ' +
          'that were seen',
        heal: nothing
      }
    }
  },
  switchedDatabase: {
    name: 'a database switched underneath',
    durationMs: 3000,
    trust: 'lost',
    isOnce: true,
    spare: 'copy',
    async inject ({ cluster, spare, writer }) {
      await writer.whileHeld(async () => {
        await spare!.start()
        await catchUp(spare!.url('cluster'), writer.names)
        // Ahead of the other one: the ids alone do not tell.
        await burnTransactions(spare!.url('cluster'), Number(await xmaxOf(cluster.databaseUrl)))
        cluster.leadTo(spare!.port)
        writer.moveTo(spare!.url('cluster'))
      })
      return {
        what: 'everybody led to another server, with other data, and transaction ids ahead; the former one goes on',
        heal: nothing
      }
    }
  },
  laggingReplica: {
    name: 'loads from a replica that lags',
    durationMs: 5000,
    trust: 'kept',
    hearing: 'own',
    spare: 'lagging',
    goesBack: true,
    async inject ({ member: { pool }, server, spare }) {
      const lead = (port: number): void => {
        pool.retarget(port)
        pool.reset()
      }
      lead(spare!.port)
      return {
        what: 'the pool of one instance is led to a standby that shows all half a second late, its polls are not',
        heal: async () => { lead(server.port) }
      }
    }
  },
  secondSchema: {
    name: 'a second schema on the search path of one pool',
    durationMs: 5000,
    trust: 'kept',
    hearing: 'own',
    firstOptions: '-c search_path=shadow,public',
    goesBack: true,
    async inject ({ faults }) {
      const copy = 'INSERT INTO shadow.users SELECT * FROM public.users; COMMIT'
      await faults.sql(`BEGIN; CREATE SCHEMA shadow; CREATE TABLE shadow.users (LIKE public.users INCLUDING ALL); ${copy}`)
      let mirroring = Promise.resolve()
      const timer = setInterval(() => {
        mirroring = mirroring.then(async () => { await faults.sql(`BEGIN; DELETE FROM shadow.users; ${copy}`) })
      }, 400)
      return {
        what: 'one pool finds another table "users" first, which follows the watched one within 0.4 s',
        async heal () {
          clearInterval(timer)
          await mirroring
          await faults.sql('DROP SCHEMA shadow CASCADE')
        }
      }
    }
  },
  prunedSleeper: {
    name: 'prune races a stopped instance',
    durationMs: 5000,
    trust: 'lost',
    async inject ({ faults, member: { process } }) {
      process.freeze()
      let pruning = Promise.resolve()
      const timer = setInterval(() => { pruning = pruning.then(() => prune(faults)) }, 1000)
      return {
        what: 'one instance stopped (SIGSTOP) while changes are removed every second',
        async heal () {
          clearInterval(timer)
          await pruning
          process.thaw()
        }
      }
    }
  },
  upgrade: {
    name: 'upgrade from the NOTIFY bus, instance by instance',
    durationMs: 1000,
    trust: 'open',
    isOnce: true,
    hearing: 'notify',
    async inject ({ cluster, faults, readers }) {
      for (const { process } of [...cluster.members]) {
        const { process: newer } = await cluster.join(`${process.name}, upgraded`, 'app')
        await warmUp([newer], cluster.people.list, { trusted: true })
        readers.add(newer)
        // Both are there for a while.
        await pause(2000)
        await readers.remove(process.name)
        await process.stop()
        await pause(500)
      }
      const notifying = async (): Promise<boolean> => (await faults.sql(`SELECT FROM pg_trigger
        WHERE tgrelid = 'users'::regclass AND tgname ~ '^orientor_[0-9a-f]{12}_[0-9]+_'`)).rowCount !== 0
      if (!await notifying()) throw new Error('the triggers that notify are gone already: nothing was tried')
      await cluster.join('one more', 'app')
      // No instance that listens is left: the next start removes them.
      await until('the triggers that notify are removed', async () => !await notifying())
      return { what: 'three instances that listen replaced one by one by instances that poll', heal: nothing }
    }
  }
} as const satisfies Record<string, Scenario>
