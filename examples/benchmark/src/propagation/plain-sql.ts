import { Agent } from 'node:http'
import {
  requestUser, startCluster, usualProfile, warmUp, Writer, type ClusterOptions
} from '@orientor-examples/cluster/harness.js'
import type { PropagationScene } from './propagate.js'

/** A scene that has to be closed. */
export interface OpenScene extends PropagationScene {
  close (): Promise<void>
}

/** Three instances of the cluster, whose users are changed with plain SQL; measured from the return of COMMIT. */
export async function plainSql (
  databaseUrl: string, hearing: NonNullable<ClusterOptions['hearing']>
): Promise<OpenScene> {
  const cluster = await startCluster({ databaseUrl, proxied: false, profile: usualProfile, hearing })
  const agent = new Agent({ keepAlive: true })
  const writer = new Writer(databaseUrl, { begin () {}, commit () {} })
  const close = async (): Promise<void> => {
    await writer.stop()
    agent.destroy()
    await cluster.stop()
  }
  try {
    const { members, people: { list } } = cluster
    const doors = new Map(members.map(({ process }) => [process.name, process]))
    await writer.start(list.map(({ subject }) => subject))
    await warmUp([...doors.values()], list, { trusted: true })
    let changes = 0
    return {
      instances: [...doors.keys()],
      async change () {
        const person = list[changes++ % list.length]!
        const commit = await writer.write(person.subject)
        if (commit === null) throw new Error('a change was not committed')
        return {
          sentAtMs: commit.returnedAtMs,
          async ask (instance) {
            const { read: { answer, endedAtMs } } = await requestUser(agent, doors.get(instance)!, person)
            return answer.kind === 'user' && !answer.marked && answer.version >= commit.version ? endedAtMs : null
          }
        }
      },
      close
    }
  } catch (error) {
    await close()
    throw error
  }
}
