import { inspect } from 'node:util'
import {
  createIdentity, sessionKey, startDeadline, systemClock, type LoadRequest
} from '@orientor/session-contract/core'
import { clerkSimulator } from '@orientor/clerk-simulator'
import { ManualClock } from '@orientor/test-kit'
import t from 'tap'
import { ClerkProvider } from '../src/clerk/clerk-provider.js'
import { askProvider, priorityOfLoad } from '../src/gather-observations.js'
import type { IdentityProvider, ProviderAnswer } from '../src/identity-provider.js'
import type { ObservedProfile } from '../src/observation.js'
import { identityProviderConformance, type DirectoryUser, type ProviderHarness } from '../src/testing.js'

const issuer = 'https://id.example.com'

type Answers = ReadonlyMap<string, ProviderAnswer>
type Asked = Parameters<IdentityProvider['lookUp']>
type Make = (directory: Directory) => IdentityProvider

/** A user of the directory. */
interface Entry extends DirectoryUser { readonly id: string, readonly changedAtMs: number }

/** A directory in memory, which gives a hundred users a call, and can be broken. */
class Directory {
  readonly entries = new Map<string, Entry>()
  mode: 'well' | 'away' | 'garbled' | 'hanging' = 'well'
  #nowMs = Date.UTC(2026, 0, 1)

  put (id: string, user: DirectoryUser): void {
    this.entries.set(id, { ...user, id, changedAtMs: this.#nowMs++ })
  }

  async find (ids: readonly string[], signal: AbortSignal): Promise<unknown> {
    if (ids.length === 0 || ids.length > 100) throw new Error('name 1 to 100 ids')
    await new Promise(resolve => { setImmediate(resolve) })
    signal.throwIfAborted()
    if (this.mode === 'away') throw new Error('connect ECONNREFUSED')
    if (this.mode === 'garbled') return '<html>Sign in</html>'
    if (this.mode === 'hanging') {
      await new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(signal.reason) }) })
    }
    return ids.flatMap(id => this.entries.get(id) ?? [])
  }
}

/** A provider as one writes it for a directory of one's own. */
class DirectoryProvider implements IdentityProvider {
  readonly directory: Directory

  constructor (directory: Directory) {
    this.directory = directory
  }

  serves (other: string): boolean {
    return other === issuer
  }

  async lookUp (...[, subjects, deadline]: Asked): Promise<Answers> {
    const answers = new Map<string, ProviderAnswer>(subjects.map(subject => [subject, { kind: 'unknown' }]))
    const ids = [...answers.keys()]
    for (let start = 0; start < ids.length; start += 100) {
      const page = ids.slice(start, start + 100)
      try {
        const entries = this.entriesOf(await this.directory.find(page, deadline.signal))
        for (const entry of entries) answers.set(entry.id, this.answerOf(entry))
      } catch (error) {
        for (const id of page) answers.set(id, { kind: 'failed', error: error as Error })
      }
    }
    return answers
  }

  entriesOf (answer: unknown): readonly Entry[] {
    if (!Array.isArray(answer)) throw new Error('the directory answered no list')
    return answer as Entry[]
  }

  answerOf ({ changedAtMs, ...entry }: Entry): ProviderAnswer {
    return { kind: 'found', version: changedAtMs, profile: this.profileOf(entry) }
  }

  profileOf ({ email, firstName, lastName }: DirectoryUser): ObservedProfile {
    return { email, firstName, lastName, blocked: false, data: null }
  }
}

function inMemory (make: Make): ProviderHarness {
  const directory = new Directory()
  let created = 0
  const put = async (subject: string, user: DirectoryUser): Promise<void> => { directory.put(subject, user) }
  const mode = (to: Directory['mode']) => async (): Promise<void> => { directory.mode = to }
  return {
    provider: make(directory),
    issuer,
    async createUser (user) {
      const subject = `auth0|Ada${++created}`
      await put(subject, user)
      return subject
    },
    updateUser: put,
    deleteUser: async subject => { directory.entries.delete(subject) },
    refuse: mode('away'),
    garble: mode('garbled'),
    hang: mode('hanging'),
    heal: mode('well'),
    nowMs: () => performance.now()
  }
}

t.test('a provider over a directory of one\'s own', async t => {
  for (const { title, run } of identityProviderConformance) {
    t.test(title, async () => { await run(inMemory(directory => new DirectoryProvider(directory))) })
  }
})

t.test('the provider over Clerk\'s Backend API', async t => {
  const clerk = await clerkSimulator()
  await clerk.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => { await clerk.close() })
  const { simulator } = clerk
  const { apiUrl, secretKey, faults } = simulator
  // The cases ask for more at once than the quota of a development key allows.
  const quota = { maxRequests: 1000 }
  for (const { title, run } of identityProviderConformance) {
    t.test(title, async () => {
      const there = new Set<string>()
      const deleteUser = async (subject: string): Promise<void> => {
        there.delete(subject)
        await simulator.deleteUser(subject)
      }
      await run({
        provider: new ClerkProvider({ secretKey, apiUrl, issuer, quota, fetch, clock: systemClock }),
        issuer,
        async createUser (user) {
          const { id } = await simulator.createUser(user)
          there.add(id)
          return id
        },
        updateUser: async (subject, user) => { await simulator.updateUser(subject, user) },
        deleteUser,
        refuse: async () => { faults.users.set({ kind: 'reset' }) },
        garble: async () => { faults.users.set({ kind: 'html' }) },
        hang: async () => { faults.users.set({ kind: 'hang' }) },
        heal: async () => { faults.users.set(null) },
        nowMs: () => systemClock.monotonic()
      })
      for (const subject of there) await deleteUser(subject)
    })
  }
})

const [texts, data, each] = [/texts as they are/, /what else there is/, /for each subject/]

/** Providers with one fault each, and the case that names it. */
const broken: ReadonlyArray<readonly [fault: string, named: RegExp, make: Make]> = [
  ['tidies names', texts, directory => new class extends DirectoryProvider {
    override profileOf (user: DirectoryUser): ObservedProfile {
      return { ...super.profileOf(user), email: user.email.toLowerCase() }
    }
  }(directory)],
  ['does not say whether a user is blocked', data, directory => new class extends DirectoryProvider {
    override profileOf (user: DirectoryUser): ObservedProfile {
      return { ...super.profileOf(user), blocked: undefined as unknown as boolean }
    }
  }(directory)],
  ['gives data that JSON cannot hold', data, directory => new class extends DirectoryProvider {
    override profileOf (user: DirectoryUser): ObservedProfile {
      return { ...super.profileOf(user), data: { since: new Date(0) } }
    }
  }(directory)],
  ['leaves out whom it does not know', each, directory => new class extends DirectoryProvider {
    override async lookUp (...asked: Asked): Promise<Answers> {
      return new Map([...await super.lookUp(...asked)].filter(([, { kind }]) => kind !== 'unknown'))
    }
  }(directory)],
  ['answers for all whom it knows', each, directory => new class extends DirectoryProvider {
    override async lookUp (...asked: Asked): Promise<Answers> {
      const answers = await super.lookUp(...asked)
      if (answers.size === 0 || directory.mode !== 'well') return answers
      const all = [...directory.entries.values()].map(entry => [entry.id, this.answerOf(entry)] as const)
      return new Map([...all, ...answers])
    }
  }(directory)],
  ['takes an unknown user for a failure', /unknown, not failed/, directory => new class extends DirectoryProvider {
    override async lookUp (...asked: Asked): Promise<Answers> {
      const failed: ProviderAnswer = { kind: 'failed', error: new Error('no such user') }
      const answers = [...await super.lookUp(...asked)]
      return new Map(answers.map(([id, answer]) => [id, answer.kind === 'unknown' ? failed : answer]))
    }
  }(directory)],
  ['reads the first page only', /more users at once than one page/, directory => new class extends DirectoryProvider {
    override async lookUp (...[other, subjects, deadline]: Asked): Promise<Answers> {
      const answers = new Map<string, ProviderAnswer>(subjects.map(subject => [subject, { kind: 'unknown' }]))
      for (const [id, answer] of await super.lookUp(other, subjects.slice(0, 100), deadline)) answers.set(id, answer)
      return answers
    }
  }(directory)],
  ['trips over a subject that is named twice', /named twice/, directory => new class extends DirectoryProvider {
    override async lookUp (...asked: Asked): Promise<Answers> {
      if (new Set(asked[1]).size < asked[1].length) throw new Error('duplicate key')
      return await super.lookUp(...asked)
    }
  }(directory)],
  ['asks for a list of none', /a list of none/, directory => new class extends DirectoryProvider {
    override async lookUp (...asked: Asked): Promise<Answers> {
      if (asked[1].length === 0) await directory.find([], asked[2].signal)
      return await super.lookUp(...asked)
    }
  }(directory)],
  ['sorts the list that it was given', /leaves the list of subjects/, directory => new class extends DirectoryProvider {
    override async lookUp (...[other, subjects, deadline]: Asked): Promise<Answers> {
      return await super.lookUp(other, (subjects as string[]).sort(), deadline)
    }
  }(directory)],
  ['keeps what is asked for on itself', /keeps look-ups apart/, directory => new class extends DirectoryProvider {
    subjects: readonly string[] = []
    override async lookUp (...[other, subjects, deadline]: Asked): Promise<Answers> {
      this.subjects = subjects
      await new Promise(resolve => { setImmediate(resolve) })
      return await super.lookUp(other, this.subjects, deadline)
    }
  }(directory)],
  ['remembers what it was told', /sees a change/, directory => new class extends DirectoryProvider {
    readonly #told = new Map<string, ProviderAnswer>()
    override answerOf (entry: Entry): ProviderAnswer {
      const answer = this.#told.get(entry.id) ?? super.answerOf(entry)
      this.#told.set(entry.id, answer)
      return answer
    }
  }(directory)],
  ['counts its versions down', /no lower/, directory => new class extends DirectoryProvider {
    override answerOf (entry: Entry): ProviderAnswer {
      return super.answerOf({ ...entry, changedAtMs: 3_500_000_000_000 - entry.changedAtMs })
    }
  }(directory)],
  ['gives versions in seconds', /whole milliseconds/, directory => new class extends DirectoryProvider {
    override answerOf (entry: Entry): ProviderAnswer {
      return super.answerOf({ ...entry, changedAtMs: Math.floor(entry.changedAtMs / 1000) })
    }
  }(directory)],
  ['gives versions as text', /whole milliseconds/, directory => new class extends DirectoryProvider {
    override answerOf (entry: Entry): ProviderAnswer {
      return super.answerOf({ ...entry, changedAtMs: new Date(entry.changedAtMs).toISOString() as unknown as number })
    }
  }(directory)],
  ['trims subjects', /only resembles/, directory => new class extends DirectoryProvider {
    override async lookUp (...[other, subjects, deadline]: Asked): Promise<Answers> {
      const answers = await super.lookUp(other, subjects.map(subject => subject.trim()), deadline)
      return new Map(subjects.map(subject => [subject, answers.get(subject.trim())!]))
    }
  }(directory)],
  ['compares subjects without their case', /only resembles/, directory => new class extends DirectoryProvider {
    override async lookUp (...[other, subjects, deadline]: Asked): Promise<Answers> {
      const known = [...directory.entries.keys()]
      const exact = (subject: string): string => {
        return known.find(one => one.toLowerCase() === subject.toLowerCase()) ?? subject
      }
      const answers = await super.lookUp(other, subjects.map(exact), deadline)
      return new Map(subjects.map(subject => [subject, answers.get(exact(subject))!]))
    }
  }(directory)],
  ['lets one subject that is refused fail all', /only resembles/, directory => new class extends DirectoryProvider {
    override async lookUp (...[other, subjects, deadline]: Asked): Promise<Answers> {
      const error = new Error('400 Bad Request')
      const refuses = subjects.some(subject => subject.startsWith('-'))
      if (refuses) return new Map(subjects.map(subject => [subject, { kind: 'failed', error }]))
      return await super.lookUp(other, subjects, deadline)
    }
  }(directory)],
  ['looks answers up in an object', /property that every object has/, directory => new class extends DirectoryProvider {
    override async lookUp (...[other, subjects, deadline]: Asked): Promise<Answers> {
      const sent = subjects.filter(subject => !(subject in {}))
      const answers = Object.fromEntries(await super.lookUp(other, sent, deadline))
      return new Map(subjects.map(subject => {
        const answer = answers[subject] as ProviderAnswer
        const profile = answer as unknown as ObservedProfile
        return [subject, 'kind' in answer ? answer : { kind: 'found', version: null, profile }]
      }))
    }
  }(directory)],
  ['rejects while its directory is away', /rejects never/, directory => new class extends DirectoryProvider {
    override async lookUp (...asked: Asked): Promise<Answers> {
      if (directory.mode === 'away' && asked[1].length > 0) throw new Error('connect ECONNREFUSED')
      return await super.lookUp(...asked)
    }
  }(directory)],
  ['is never well again', /finds users again afterwards/, directory => new class extends DirectoryProvider {
    #error: Error | null = null
    override async lookUp (...asked: Asked): Promise<Answers> {
      if (directory.mode === 'away') this.#error ??= new Error('connect ECONNREFUSED')
      const error = this.#error
      if (error === null) return await super.lookUp(...asked)
      return new Map(asked[1].map(subject => [subject, { kind: 'failed', error }]))
    }
  }(directory)],
  ['reads garbage as an empty list', /garbage/, directory => new class extends DirectoryProvider {
    override entriesOf (answer: unknown): readonly Entry[] {
      return Array.isArray(answer) ? answer as Entry[] : []
    }
  }(directory)],
  ['waits for its directory past the deadline', /its deadline aborts/, directory => new class extends DirectoryProvider {
    override async lookUp (...[other, subjects, { atMs }]: Asked): Promise<Answers> {
      return await super.lookUp(other, subjects, { atMs, signal: new AbortController().signal })
    }
  }(directory)],
  ['calls users unknown when told to stop', /calls no user unknown/, directory => new class extends DirectoryProvider {
    override async lookUp (...asked: Asked): Promise<Answers> {
      if (!asked[2].signal.aborted) return await super.lookUp(...asked)
      return new Map(asked[1].map(subject => [subject, { kind: 'unknown' }]))
    }
  }(directory)],
  ['throws at an issuer that is no URL', /serves an issuer/, directory => new class extends DirectoryProvider {
    override serves (other: string): boolean {
      return new URL(other).href === new URL(issuer).href
    }
  }(directory)],
  ['answers serves() with a promise', /serves an issuer/, directory => new class extends DirectoryProvider {
    override serves (other: string): boolean {
      return Promise.resolve(super.serves(other)) as unknown as boolean
    }
  }(directory)],
  ['serves no issuer while its directory is away', /serves an issuer/, directory => new class extends DirectoryProvider {
    override serves (other: string): boolean {
      return directory.mode === 'well' && super.serves(other)
    }
  }(directory)],
  ['puts backfill off for good', /every priority/, directory => new class extends DirectoryProvider {
    override async lookUp (...[other, subjects, deadline, priority]: Asked): Promise<Answers> {
      return priority === 'backfill' ? new Map() : await super.lookUp(other, subjects, deadline)
    }
  }(directory)]
]

t.test('the conformance suite', async t => {
  for (const [fault, named, make] of broken) {
    t.test(`catches a provider that ${fault}, by the case that names it`, async t => {
      const failing = new Map<string, string>()
      await Promise.all(identityProviderConformance.map(async ({ title, run }) => {
        await run(inMemory(make)).catch((error: Error) => { failing.set(title, error.message) })
      }))
      t.ok([...failing.keys()].some(title => named.test(title)), inspect(failing))
      t.ok(failing.size <= 4, `it is not all that fails: ${inspect(failing)}`)
    })
  }
  t.test('has a provider with that fault for every case', async t => {
    for (const { title } of identityProviderConformance) t.ok(broken.some(([, named]) => named.test(title)), title)
  })
})

t.test('the priority of a look-up', async t => {
  const load = (subject: string, more: Partial<LoadRequest> = {}): LoadRequest => {
    const identity = createIdentity({ issuer, subject, claims: {} })
    return { key: sessionKey(issuer, subject), issuer, subject, identity, ...more }
  }
  const other = 'https://other.example'
  const loads = [
    load('a'), load('b', { identity: null }), load('c', { identity: null, force: true }), load('d', { force: true }),
    load('e', { identity: null }), load('f', { issuer: other, key: sessionKey(other, 'f') })
  ]
  const asking = async (): Promise<string[]> => {
    const clock = new ManualClock()
    const asked: string[] = []
    const provider: IdentityProvider = {
      serves: () => true,
      async lookUp (of, subjects, _deadline, priority) {
        asked.push(`${of} ${priority} ${subjects.join()}`)
        return new Map(subjects.map(subject => [subject, { kind: 'unknown' }]))
      }
    }
    const deadline = startDeadline(clock, 1000)
    const results = await askProvider(provider, loads, clock, deadline)
    t.same(new Set(results.keys()), new Set(loads.map(({ key }) => key)))
    return asked
  }
  t.test('is backfill for a load that no request waits for, and interactive for all others', async t => {
    const kinds = ['interactive', 'backfill', 'interactive', 'interactive', 'backfill', 'interactive']
    t.same(loads.map(priorityOfLoad), kinds)
    t.same(await asking(), [`${issuer} interactive a,c,d`, `${issuer} backfill b,e`, `${other} interactive f`])
  })
})

t.test('an answer that cannot be used fails for its user alone', async t => {
  const clock = new ManualClock()
  const subjects = ['fine', 'no profile', 'a ring', 'a bigint', 'nothing']
  const ring: Record<string, unknown> = {}
  ring['ring'] = ring
  const profile: ObservedProfile = { email: null, firstName: null, lastName: null, blocked: false, data: null }
  const odd = new Map<string, unknown>([
    ['fine', { kind: 'found', version: null, profile }],
    ['no profile', { kind: 'found', version: null }],
    ['a ring', { kind: 'found', version: null, profile: { ...profile, data: ring } }],
    ['a bigint', { kind: 'found', version: null, profile: { ...profile, data: { id: 1n } } }],
    ['nothing', null]
  ])
  for (const [answer, fine] of [[odd, 'observed'], [undefined, 'failed'], ['text', 'failed'], [{}, 'failed']] as const) {
    const provider = { serves: () => true, lookUp: async () => answer } as unknown as IdentityProvider
    const requests = subjects.map(subject => ({ key: sessionKey(issuer, subject), issuer, subject, identity: null }))
    const results = [...(await askProvider(provider, requests, clock, startDeadline(clock, 1000))).values()]
    t.same(results.map(({ kind }) => kind), [fine, 'failed', 'failed', 'failed', 'failed'])
    t.match(results[1], { error: { code: 'ORI_SYNC_PROVIDER_UNAVAILABLE' } })
  }
})
