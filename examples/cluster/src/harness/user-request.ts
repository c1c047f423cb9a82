import { get, type Agent } from 'node:http'
import type { Answer, Read, TrustSample } from '../checker/index.js'
import type { View } from '../instance/instance-settings.js'
import type { Person } from './people.js'
import { readName } from './versioned-rows.js'

/** A request for a user as the checker is told of it, and what the instance said about itself; null when it did not answer with a user. */
export interface Observed {
  readonly read: Read
  readonly trust: TrustSample | null
  readonly view: View | null
}

/** Where to ask. */
export interface Door {
  readonly name: string
  readonly url: string
}

const answeredWithinMs = 10_000

/** Asks an instance for a user. Never rejects: a request that fails is an observation, too. */
export function requestUser (agent: Agent, { name, url }: Door, { subject, authorization }: Person): Promise<Observed> {
  return new Promise(resolve => {
    const begunAtMs = performance.now()
    const settle = (answer: Answer, view: View | null): void => {
      const endedAtMs = performance.now()
      resolve({
        read: { instance: name, key: subject, begunAtMs, endedAtMs, answer },
        trust: view === null ? null : { instance: name, begunAtMs, endedAtMs, trusted: view.trusted, epoch: view.epoch },
        view
      })
    }
    const request = get(`${url}/me`, { agent, headers: { authorization }, timeout: answeredWithinMs }, response => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => { body += chunk })
      response.on('error', () => { settle({ kind: 'failed', status: null }, null) })
      response.on('end', () => {
        const view = response.statusCode === 200 ? JSON.parse(body) as View : null
        settle(view === null ? { kind: 'failed', status: response.statusCode! } : answerOf(view), view)
      })
    })
    request.on('timeout', () => { request.destroy(new Error('no answer')) })
    request.on('error', () => { settle({ kind: 'failed', status: null }, null) })
  })
}

function answerOf ({ subject, firstName, stale }: View): Answer {
  const row = readName(firstName)
  // The subject that the app names, and the one whose row it was: both have to be the one that was asked for.
  const key = row === null || row.subject !== subject ? `${subject} with the row of ${row?.subject ?? 'nobody'}` : subject
  return { kind: 'user', key, version: row?.version ?? -1, marked: stale }
}
