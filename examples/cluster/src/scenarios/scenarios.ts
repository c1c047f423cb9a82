import { updateOf } from '../harness/index.js'
import type { Injected, Scenario, Stage } from './scenario.js'

const hourMs = 3_600_000
const nothing = async (): Promise<void> => {}

/** The session of the struck instance that listens. */
async function listenBackend ({ faults, member }: Stage): Promise<number> {
  const { rows: [row] } = await faults.sql<{ pid: number }>('SELECT pid FROM pg_stat_activity WHERE client_port = ANY ($1::int[])', [member.listen.serverPorts])
  if (row === undefined) throw new Error(`instance ${member.process.name} has no session that listens`)
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

/** Every fault that the bound has to hold under. */
export const scenarios = {
  calm: {
    name: 'calm', durationMs: 4000, trust: 'kept', healsItself: true, inject: async () => ({ what: 'nothing', heal: nothing })
  },
  halfOpenListen: {
    name: 'half-open LISTEN',
    durationMs: 4000,
    trust: 'lost',
    healsItself: true,
    async inject ({ member: { listen } }) {
      listen.silence()
      return { what: 'the LISTEN connection of one instance is half-open', heal: nothing }
    }
  },
  deafListen: {
    name: 'half-open LISTEN in one direction',
    durationMs: 4000,
    trust: 'lost',
    healsItself: true,
    async inject ({ member: { listen } }) {
      listen.silence('to client')
      return { what: 'one instance is heard, and hears nothing', heal: nothing }
    }
  },
  droppedListen: {
    name: 'dropped LISTEN',
    durationMs: 3000,
    trust: 'lost',
    async inject ({ member: { listen } }) {
      listen.mode = 'refuse'
      listen.reset()
      return { what: 'the LISTEN connection of one instance is cut and refused', heal: async () => { listen.mode = 'pass' } }
    }
  },
  frozenListenBackend: {
    name: 'frozen LISTEN backend',
    durationMs: 5000,
    trust: 'lost',
    healsItself: true,
    async inject (stage) {
      const frozen = stage.faults.freeze(await listenBackend(stage))
      return { what: 'the LISTEN backend of one instance is stopped (SIGSTOP)', heal: () => frozen.heal() }
    }
  },
  partition: {
    name: 'partition',
    durationMs: 10_000,
    trust: 'lost',
    async inject ({ member: { pool, listen } }) {
      pool.mode = listen.mode = 'stall'
      return { what: 'one instance is cut off from the database; what is under way arrives late', heal: async () => { pool.mode = listen.mode = 'pass' } }
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
    trust: 'lost',
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
      await writer.writeWith(updateOf('wish'))
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
  listenThroughPgBouncer: {
    name: 'LISTEN through PgBouncer',
    durationMs: 6000,
    trust: 'never',
    throughPgBouncer: 'listen',
    inject: async () => ({ what: 'the bus goes through PgBouncer in transaction mode', heal: nothing })
  },
  everythingThroughPgBouncer: {
    name: 'everything through PgBouncer',
    durationMs: 6000,
    trust: 'never',
    throughPgBouncer: 'everything',
    inject: async () => ({ what: 'bus and pool go through PgBouncer in transaction mode', heal: nothing })
  }
} as const satisfies Record<string, Scenario>
