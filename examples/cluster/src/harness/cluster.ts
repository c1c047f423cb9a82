import { strictTimes } from '@orientor/session-cache/postgres'
import { startTcpProxy, type TcpProxy } from '@orientor/test-kit'
import pg from 'pg'
import type { Hearing, InstanceSettings } from '../instance/instance-settings.js'
import { startInstance, type InstanceProcess } from './instance-process.js'
import { startPeople, type People } from './people.js'
import { insertRows } from './versioned-rows.js'

/** An instance, and the two ways to the database that can be cut apart. */
export interface Member {
  readonly process: InstanceProcess
  /** The way of the app's pool, and of polls that take it. */
  readonly pool: TcpProxy
  /** The way of a bus that does not take the app's pool. */
  readonly bus: TcpProxy
}

/** Several instances on one database. */
export interface Cluster {
  readonly databaseUrl: string
  /** The instances, in the order of their names, then those that joined. */
  readonly members: readonly Member[]
  readonly people: People
  /** Starts one more instance. */
  join (name: string, hearing: Hearing): Promise<Member>
  /** Leads every instance to another port from now on, and cuts what is open. */
  leadTo (port: number): void
  /** Ends every process and every proxy that was started. */
  stop (): Promise<void>
}

/** How a cluster is made. Times are milliseconds. */
export interface ClusterOptions {
  /** An empty database. */
  readonly databaseUrl: string
  /** Where instances connect to it; default is the database itself. */
  readonly poolUrl?: string
  /** The way in which instances hear of changes. Default is `app`. */
  readonly hearing?: Hearing
  /** Parameters of every session of the first instance's pool, as `options` of libpq has them. Default is none. */
  readonly firstOptions?: string
  /** Names of the instances. Default is three. */
  readonly names?: readonly string[]
  readonly userCount?: number
  /** Whether instances reach the database through proxies of their own, which can be cut. Without, nothing stands between. Default is true. */
  readonly proxied?: boolean
  readonly profile?: Profile
}

/** The bound, and what keeps it. Milliseconds. */
export type Profile = Pick<
  InstanceSettings, 'maxStalenessMs' | 'staleIfErrorMs' | 'expireAfterMs' | 'pollIntervalMs' | 'pollTimeoutMs' | 'loadTimeoutMs'
>

/** The bound that session-cache has by itself: five seconds. */
export const usualProfile: Profile = Object.freeze({
  maxStalenessMs: 5000,
  staleIfErrorMs: 900_000,
  expireAfterMs: 900_000,
  pollIntervalMs: 200,
  pollTimeoutMs: 2000,
  loadTimeoutMs: 2000
})

/** A bound of two seconds. */
export const strictProfile: Profile = Object.freeze({
  ...strictTimes, staleIfErrorMs: 900_000, expireAfterMs: 900_000, loadTimeoutMs: 750
})

/**
 * Starts instances on an empty database, with a row for every user.
 *
 * @throws when something does not start; what was started is stopped then
 */
export async function startCluster ({
  databaseUrl, poolUrl = databaseUrl, hearing = 'app', firstOptions,
  names = ['a', 'b', 'c'], userCount = 12, proxied = true, profile = strictProfile
}: ClusterOptions): Promise<Cluster> {
  const closers: Array<() => Promise<unknown>> = []
  const members: Member[] = []
  const stop = async (): Promise<void> => {
    const results = await Promise.allSettled(closers.splice(0).map(close => close()))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }
  const proxyTo = async (url: string): Promise<TcpProxy> => {
    const proxy = await startTcpProxy(Number(new URL(url).port))
    closers.push(() => proxy.stop())
    return proxy
  }
  try {
    const people = await startPeople(userCount)
    closers.push(() => people.stop())
    const startMember = async (name: string, hearing: Hearing, options?: string): Promise<Member> => {
      const pool = await proxyTo(poolUrl)
      const bus = await proxyTo(databaseUrl)
      const process = await startInstance({
        name,
        databaseUrl: withOptions(proxied ? pool.through(poolUrl) : poolUrl, options),
        hearing,
        busUrl: proxied ? bus.through(databaseUrl) : databaseUrl,
        issuer: people.issuer,
        jwksUrl: people.jwksUrl,
        ...profile
      })
      closers.push(() => process.stop())
      return { process, pool, bus }
    }
    const join = async (name: string, hearing: Hearing): Promise<Member> => {
      const member = await startMember(name, hearing)
      members.push(member)
      return member
    }
    // The first one makes the tables, so that the others find them.
    const [first, ...others] = names
    members.push(await startMember(first!, hearing, firstOptions))
    members.push(...await every(others.map(name => startMember(name, hearing))))
    await insertPeople(databaseUrl, people)
    return {
      databaseUrl,
      members,
      people,
      join,
      leadTo (port) {
        for (const { pool, bus } of members) {
          for (const proxy of [pool, bus]) {
            proxy.retarget(port)
            proxy.reset()
          }
        }
      },
      stop
    }
  } catch (error) {
    await stop().catch(() => {})
    throw error
  }
}

function withOptions (url: string, options: string | undefined): string {
  if (options === undefined) return url
  const whole = new URL(url)
  whole.searchParams.set('options', options)
  return whole.href
}

/** Waits for all before it rejects, so that nothing is still being started when what was started is stopped. */
async function every<T> (promises: ReadonlyArray<Promise<T>>): Promise<T[]> {
  await Promise.allSettled(promises)
  return await Promise.all(promises)
}

async function insertPeople (databaseUrl: string, { issuer, list }: People): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await client.query(insertRows, [issuer, list.map(({ subject }) => subject)])
  } finally {
    await client.end()
  }
}
