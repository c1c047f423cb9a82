import assert from 'node:assert/strict'
import type { Deadline } from '@orientor/session-contract/core'
import type { IdentityProvider, LookUpPriority, ProviderAnswer } from './identity-provider.js'

/** The part of a user that the conformance suite fills in at the back end. */
export interface DirectoryUser {
  readonly email: string
  readonly firstName: string
  readonly lastName: string
}

/** The means by which the conformance suite fills and breaks the back end of a provider. A fresh one for each case. */
export interface ProviderHarness {
  readonly provider: IdentityProvider
  /** An issuer whose users the provider answers for. */
  readonly issuer: string
  /** Makes a user at the back end; resolves to the subject. */
  createUser (user: DirectoryUser): Promise<string>
  /** Changes a user at the back end. */
  updateUser (subject: string, user: DirectoryUser): Promise<void>
  /** Deletes a user at the back end, who is unknown from then on. */
  deleteUser (subject: string): Promise<void>
  /** Lets the back end end every request without an answer. */
  refuse (): Promise<void>
  /** Lets the back end answer what is no answer: a page of HTML, half a document. */
  garble (): Promise<void>
  /** Lets the back end take requests and answer none. */
  hang (): Promise<void>
  /** Undoes refuse(), garble() and hang(). */
  heal (): Promise<void>
  /** The monotonic clock of the provider, in milliseconds. */
  nowMs (): number
}

/** One case: its title, and what it does. */
export interface ProviderCase {
  readonly title: string
  readonly run: (harness: ProviderHarness) => Promise<void>
}

type Answers = ReadonlyMap<string, ProviderAnswer>
type FoundAnswer = ProviderAnswer & { readonly kind: 'found' }

/** The time that a look-up is given, in milliseconds. */
const patienceMs = 5000
/** The longest that a look-up may go on after its deadline, in milliseconds. */
const graceMs = 1000
const earliestVersionMs = Date.UTC(2000, 0, 1)
const latestVersionMs = Date.UTC(2200, 0, 1)
/** More than one page of any list that the field's APIs answer by default, and no multiple of one. */
const manyUsers = 251

const ada: DirectoryUser = { email: 'Ada+Notes@Example.com', firstName: 'Ada', lastName: "O'Brien-Lovelace" }
const others: readonly DirectoryUser[] = [
  { email: 'x@example.com', firstName: '<b>&amp;"\\', lastName: 'Größe 数学 😀' },
  { email: 'NULL@example.com', firstName: 'null', lastName: 'undefined' },
  { email: "o'hara@example.com", firstName: 'José', lastName: '{{user}} %s $1' }
]
const prototypeNames = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf']

/** The cases that every identity provider has to pass, for any test runner: run each with a harness of its own. */
export const identityProviderConformance: readonly ProviderCase[] = Object.freeze([
  given('finds each user with a profile of their own, its texts as they are', async harness => {
    const subjects = await created(harness, [ada, ...others])
    const answers = await lookUp(harness, subjects)
    for (const [index, user] of [ada, ...others].entries()) {
      const { email, firstName, lastName } = found(answers, subjects[index]!).profile
      assert.deepEqual({ email, firstName, lastName }, user)
    }
  }),
  given('says whether a user is blocked, and what else there is as a JSON object or null', async harness => {
    const [subject] = await created(harness, [ada])
    const { blocked, data } = found(await lookUp(harness, [subject!]), subject!).profile
    assert.equal(blocked, false)
    assert.ok(typeof data === 'object' && !Array.isArray(data), `data must be an object or null; it is ${typeof data}`)
    assert.deepEqual(JSON.parse(JSON.stringify(data)), data)
  }),
  given('answers for each subject that is asked for, and for no other', async harness => {
    const subjects = await created(harness, [ada, ...others])
    await harness.deleteUser(subjects[1]!)
    const asked = subjects.slice(0, 3)
    assert.deepEqual(new Set((await lookUp(harness, asked)).keys()), new Set(asked))
  }),
  given('answers unknown, not failed, for a user whom it does not know', async harness => {
    const [gone, there] = await created(harness, [ada, others[0]!])
    await harness.deleteUser(gone!)
    const answers = await lookUp(harness, [gone!, there!])
    if (answers.has(gone!)) assert.deepEqual(answers.get(gone!), { kind: 'unknown' })
    found(answers, there!)
  }),
  given('finds more users at once than one page of its back end holds', async harness => {
    const users = Array.from({ length: manyUsers }, (_, index) => ({ ...ada, firstName: `Ada ${index}` }))
    const subjects = await created(harness, users.map((user, index) => ({ ...user, email: `ada${index}@example.com` })))
    const answers = await lookUp(harness, subjects)
    for (const [index, subject] of subjects.entries()) {
      assert.equal(found(answers, subject).profile.firstName, `Ada ${index}`)
    }
  }),
  given('takes a subject that is named twice for one', async harness => {
    const [one, other] = await created(harness, [ada, others[0]!])
    const answers = await lookUp(harness, [one!, other!, one!, one!])
    assert.equal(found(answers, one!).profile.firstName, ada.firstName)
    assert.equal(found(answers, other!).profile.firstName, others[0]!.firstName)
  }),
  given('answers a list of none with no answer, also while its back end is away', async harness => {
    assert.equal((await lookUp(harness, [])).size, 0)
    await harness.refuse()
    assert.equal((await lookUp(harness, [])).size, 0)
  }),
  given('leaves the list of subjects as it was', async harness => {
    const subjects = [...await created(harness, [ada, ...others])].reverse()
    const answers = await lookUp(harness, Object.freeze(subjects))
    for (const subject of subjects) found(answers, subject)
  }),
  given('keeps look-ups apart that are on their way at the same time', async harness => {
    const subjects = await created(harness, [ada, ...others])
    const all = await Promise.all(subjects.map(async subject => await lookUp(harness, [subject])))
    for (const [index, answers] of all.entries()) {
      assert.equal(found(answers, subjects[index]!).profile.firstName, [ada, ...others][index]!.firstName)
    }
  }),
  given('sees a change with the next look-up, under a version that is no lower', async harness => {
    const [subject] = await created(harness, [ada])
    const before = found(await lookUp(harness, [subject!]), subject!)
    await harness.updateUser(subject!, { ...ada, firstName: 'Augusta' })
    const after = found(await lookUp(harness, [subject!]), subject!)
    assert.equal(after.profile.firstName, 'Augusta')
    assert.equal(before.version === null, after.version === null)
    assert.ok((after.version ?? 0) >= (before.version ?? 0), `${after.version} comes after ${before.version}`)
  }),
  given('gives versions as whole milliseconds since the epoch, or null', async harness => {
    const [subject] = await created(harness, [ada])
    const { version } = found(await lookUp(harness, [subject!]), subject!)
    if (version === null) return
    assert.ok(Number.isInteger(version), `a version is a whole number; it is ${String(version)}`)
    const isInMs = version >= earliestVersionMs && version < latestVersionMs
    assert.ok(isInMs, `a version is in milliseconds; it is ${version}`)
  }),
  given('finds no user by a subject that only resembles theirs, and all who are asked for beside it', async harness => {
    const [one, other] = await created(harness, [ada, others[0]!])
    const resembling = resemblancesOf(one!, other!)
    const answers = await lookUp(harness, [one!, ...resembling, other!])
    assert.equal(found(answers, one!).profile.firstName, ada.firstName)
    assert.equal(found(answers, other!).profile.firstName, others[0]!.firstName)
    const alone = await Promise.all(resembling.map(async subject => (await lookUp(harness, [subject])).get(subject)))
    for (const [index, subject] of resembling.entries()) {
      for (const answer of [answers.get(subject), alone[index]]) {
        assert.equal(answer?.kind, 'unknown', `the answer for ${shown(subject)} beside ${shown(one!)}`)
      }
    }
  }),
  given('finds no user by the name of a property that every object has', async harness => {
    const [subject] = await created(harness, [ada])
    const answers = await lookUp(harness, [...prototypeNames, subject!])
    for (const name of prototypeNames) assert.equal(answers.get(name)?.kind, 'unknown', `the answer for ${name}`)
    found(answers, subject!)
  }),
  given('answers failed while its back end is away, rejects never, and finds users again afterwards', async harness => {
    const subjects = await created(harness, [ada, others[0]!])
    await harness.refuse()
    allFailed(await lookUp(harness, subjects), subjects)
    await harness.heal()
    for (const subject of subjects) found(await lookUp(harness, [subject]), subject)
  }),
  given('answers failed, not unknown, where its back end answers garbage', async harness => {
    const subjects = await created(harness, [ada, others[0]!])
    await harness.garble()
    allFailed(await lookUp(harness, subjects), subjects)
    await harness.heal()
    for (const subject of subjects) found(await lookUp(harness, [subject]), subject)
  }),
  given('ends when the signal of its deadline aborts, while its back end hangs', async harness => {
    const subjects = await created(harness, [ada, others[0]!])
    await harness.hang()
    const control = new AbortController()
    const underWay = harness.provider.lookUp(harness.issuer, subjects, deadlineBy(harness, control.signal))
    underWay.catch(() => {})
    await settledWithin(new Promise(resolve => { setTimeout(resolve, 50) }), graceMs)
    control.abort(new DOMException('The caller gave up', 'AbortError'))
    allFailed(await settledWithin(underWay, graceMs), subjects)
  }),
  given('ends at once where the signal has aborted before, and calls no user unknown', async harness => {
    const [subject] = await created(harness, [ada])
    await harness.hang()
    const underWay = harness.provider.lookUp(harness.issuer, [subject!], deadlineBy(harness, AbortSignal.abort()))
    const answer = (await settledWithin(underWay, graceMs)).get(subject!)
    assert.notEqual(answer?.kind, 'unknown')
  }),
  given('says whether it serves an issuer: true or false, the same each time, whatever the issuer', async harness => {
    const { provider, issuer } = harness
    assert.equal(provider.serves(issuer), true)
    const issuers = [
      '', ' ', `${issuer}/`, ` ${issuer}`, `${issuer}\0`, `-${issuer}`, issuer.toUpperCase(), 'http://[', '%', '\ud800',
      'https://other.example', 'x'.repeat(5000), ...prototypeNames
    ]
    const first = issuers.map(one => provider.serves(one))
    for (const [index, answer] of first.entries()) {
      assert.ok(answer === true || answer === false, `serves(${shown(issuers[index]!)}) is ${typeof answer}`)
    }
    await harness.refuse()
    assert.deepEqual(issuers.map(one => provider.serves(one)), first)
    assert.equal(provider.serves(issuer), true)
  }),
  given('looks users up with every priority, and without one', async harness => {
    const [subject] = await created(harness, [ada])
    for (const priority of ['interactive', 'webhook', 'backfill', undefined] as const) {
      found(await lookUp(harness, [subject!], priority), subject!)
    }
  })
])

function given (title: string, run: ProviderCase['run']): ProviderCase {
  return Object.freeze({
    title,
    run: async (harness: ProviderHarness) => {
      try {
        await run(harness)
      } finally {
        await harness.heal()
      }
    }
  })
}

async function created (harness: ProviderHarness, users: readonly DirectoryUser[]): Promise<readonly string[]> {
  const subjects: string[] = []
  for (const user of users) subjects.push(await harness.createUser(user))
  return subjects
}

async function lookUp (
  harness: ProviderHarness, subjects: readonly string[], priority?: LookUpPriority
): Promise<Answers> {
  const deadline = deadlineBy(harness, AbortSignal.timeout(patienceMs))
  const more = priority === undefined ? [] as const : [priority] as const
  return await settledWithin(harness.provider.lookUp(harness.issuer, subjects, deadline, ...more), patienceMs + graceMs)
}

function deadlineBy (harness: ProviderHarness, signal: AbortSignal): Deadline {
  return { atMs: harness.nowMs() + patienceMs, signal }
}

async function settledWithin<T> (work: Promise<T>, limitMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    const error = new assert.AssertionError({ message: `no answer within ${limitMs} ms` })
    timer = setTimeout(() => { reject(error) }, limitMs)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

function found (answers: Answers, subject: string): FoundAnswer {
  const answer = answers.get(subject)
  assert.equal(answer?.kind, 'found', `the answer for ${shown(subject)}`)
  return answer as FoundAnswer
}

function allFailed (answers: Answers, subjects: readonly string[]): void {
  for (const subject of subjects) {
    const answer = answers.get(subject)
    // A subject that is left out counts as failed.
    if (answer === undefined) continue
    assert.ok(answer.kind === 'failed', `the answer for ${shown(subject)} is ${answer.kind}`)
    assert.ok(answer.error instanceof Error, 'a failed answer has an error')
    assert.ok((answer.retryAfterMs ?? 0) >= 0, `retryAfterMs is ${String(answer.retryAfterMs)}`)
  }
}

/** Subjects that no user has, and that name one or all wherever a text is more than a text. */
function resemblancesOf (one: string, other: string): readonly string[] {
  const resembling = [
    `-${one}`, `+${one}`, `!${one}`, `${one},${other}`, `${one} ${other}`, `${one} `, ` ${one}`, `${one}\n`, `${one}\t`,
    `${one}\0`, `\0${one}`, `${one}\0${other}`, `${one}%00`, `${one}%20`, `%${one}`, `${one}%`, `${one}*`, `${one}.*`,
    `${one}/`, `${one}/../${other}`, `../${other}`, `./${one}`, `${one}?`, `${one}?limit=500`, `${one}&id=${other}`,
    `${one}&user_id=${other}`,
    `${one}#`, `${one};`, `"${one}"`, `'${one}'`, `[${one}]`, `${one}' OR '1'='1`, `${one}\\`, `${one}\ud800`,
    `%${one.charCodeAt(0).toString(16)}${one.slice(1)}`, one.slice(0, -1), one.slice(1), one + one, one.toUpperCase(),
    one.toLowerCase(), `${one}\u0301`, `${one}\u200b`, '', ' ', '*', '%', '_', '-', '+', '.', '..', '/', '?', '\0',
    'x'.repeat(5000), one.padEnd(5000, 'x'), 'undefined', 'null', '0'
  ]
  return [...new Set(resembling)].filter(subject => subject !== one && subject !== other)
}

function shown (text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text)
}
