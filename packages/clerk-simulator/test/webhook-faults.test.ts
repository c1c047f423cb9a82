import { ManualClock, until } from '@orientor/test-kit'
import t, { type Test } from 'tap'
import { clerkSimulator, type SimulatorOptions, type WebhookFault } from '../src/index.js'
import { ReorderBuffer } from '../src/reorder-buffer.js'
import { seededRandom } from '../src/seeded-random.js'
import { type Answer, type Received, receiver, verified } from './fixtures/receiver.js'

const oldSecret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const newSecret = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD'
const nameIn = ({ body }: Received): string => JSON.parse(body).data.first_name
const idOf = ({ headers }: Received): string => String(headers['svix-id'])

async function setUp (t: Test, { answer, ...options }: SimulatorOptions & { readonly answer?: Answer } = {}) {
  const clerk = await clerkSimulator({ issuer: 'https://clerk.example.test', seed: 1, ...options })
  t.teardown(() => clerk.close())
  const { simulator } = clerk
  const { url, received } = await receiver(t, answer)
  const endpoint = await simulator.addWebhookEndpoint({ url })
  const user = await simulator.createUser({ firstName: 'first' })
  await simulator.deliveries()
  received.length = 0
  /** Changes the user's first name to '0', '1' and so on, and resolves to the names as they arrived. */
  const update = async (count: number): Promise<string[]> => {
    for (let index = 0; index < count; index++) await simulator.updateUser(user.id, { firstName: String(index) })
    await simulator.deliveries()
    return received.map(nameIn)
  }
  return { clerk, simulator, endpoint, user, received, update }
}

/** By how many later ones each was overtaken. */
const overtakers = (arrived: readonly number[]): number[] => {
  return arrived.map((item, index) => arrived.slice(0, index).filter(before => before > item).length)
}

const inOrder = (count: number): string[] => Array.from({ length: count }, (_, index) => String(index))

t.test('A share of the webhooks is dropped, the same ones for the same seed, and can be delivered later.', async t => {
  const arrivedWith = async (seed: number, more: WebhookFault = {}): Promise<string[]> => {
    const { simulator, update } = await setUp(t, { seed })
    simulator.faults.webhooks.set({ dropRatio: 0.5, ...more })
    return await update(60)
  }
  const arrived = await arrivedWith(7)
  t.ok(arrived.length > 10 && arrived.length < 50, `${arrived.length} of 60 arrived`)
  t.strictSame(await arrivedWith(7), arrived)
  t.notSame(await arrivedWith(8), arrived)
  const withOthers = await arrivedWith(7, { duplicateRatio: 1, secretRatio: 0.5 })
  t.strictSame([...new Set(withOthers)], arrived, 'another fault does not change which are dropped')

  const { simulator, user, received } = await setUp(t, { webhookRetryDelaysMs: [1] })
  simulator.faults.webhooks.set({ dropRatio: 1 })
  await simulator.updateUser(user.id, { firstName: 'lost' })
  const dropped = (await simulator.deliveries()).at(-1)
  t.match(dropped, { type: 'user.updated', attempt: 0, status: null, failure: 'dropped by a fault' })
  t.equal(received.length, 0, 'a dropped message is not tried again')
  t.match(simulator.events.at(-1), { type: 'user.updated', data: { first_name: 'lost' } }, 'it happened nevertheless')
  t.match(await simulator.redeliver(String(dropped?.messageId)), { attempt: 1, status: 204 })
  t.strictSame(received.map(nameIn), ['lost'])
})

t.test('A share of the webhooks is sent twice under the same id, each signed.', async t => {
  const { simulator, received, update } = await setUp(t)
  simulator.faults.webhooks.set({ duplicateRatio: 1 })
  t.strictSame(await update(2), ['0', '0', '1', '1'])
  t.strictSame(received.map(idOf), [0, 0, 2, 2].map(index => idOf(received[index]!)))
  t.not(idOf(received[0]!), idOf(received[2]!))
  for (const one of received) t.doesNotThrow(() => verified(one, simulator.webhookSecret))
  t.strictSame((await simulator.deliveries()).slice(-2).map(({ attempt }) => attempt), [1, 2])

  received.length = 0
  simulator.faults.webhooks.set({ duplicateRatio: 0.5 })
  const arrived = (await update(40)).length
  t.ok(arrived > 45 && arrived < 75, `${arrived} for 40`)
})

t.test('Webhooks overtake one another, none is overtaken by more than allowed, and all arrive.', async t => {
  const { simulator, update } = await setUp(t)
  simulator.faults.webhooks.set({ reorderWithin: 4 })
  const arrived = await update(200)
  t.strictSame([...arrived].sort((a, b) => Number(a) - Number(b)), inOrder(200))
  const overtaken = overtakers(arrived.map(Number))
  t.ok(overtaken.filter(count => count > 0).length > 20, 'many are overtaken')
  t.ok(Math.max(...overtaken) <= 4, `by ${Math.max(...overtaken)} at most`)
  const happened = simulator.events.slice(1).map(({ data }) => (data as { first_name: string }).first_name)
  t.strictSame(happened, inOrder(200), 'the order in which they happened can be read')

  const again = await setUp(t)
  again.simulator.faults.webhooks.set({ reorderWithin: 4 })
  t.strictSame(await again.update(200), arrived, 'the same seed, the same order')
})

t.test('What is held goes out when the fault or the endpoint ends, and when the deliveries are asked for.', async t => {
  for (const release of ['set', 'remove', 'deliveries'] as const) {
    const { simulator, endpoint, user, received } = await setUp(t)
    simulator.faults.webhooks.set({ reorderWithin: 100 })
    for (const firstName of ['a', 'b', 'c']) await simulator.updateUser(user.id, { firstName })
    await new Promise(resolve => { setTimeout(resolve, 20) })
    t.ok(received.length < 3, `${received.length} of 3 arrived before`)
    if (release === 'set') simulator.faults.webhooks.set(null)
    if (release === 'remove') await simulator.removeWebhookEndpoint(endpoint.id)
    if (release === 'deliveries') await simulator.deliveries()
    await until(`all arrive: ${release}`, () => received.length === 3)
    t.strictSame(received.map(nameIn).sort(), ['a', 'b', 'c'], release)
  }
})

t.test('A buffer lets n later items pass at most, and none at all for n = 0.', async t => {
  for (const within of [0, 1, 2, 7]) {
    const random = seededRandom(within)
    const buffer = new ReorderBuffer<number>()
    const out: number[] = []
    for (let item = 0; item < 500; item++) out.push(...buffer.take(item, random() * (within + 1)))
    out.push(...buffer.flush())
    t.strictSame([...out].sort((a, b) => a - b), Array.from({ length: 500 }, (_, index) => index))
    const worst = Math.max(...overtakers(out))
    t.ok(worst <= within && (within === 0 || worst > 0), `${worst} passed of ${within}`)
  }
})

t.test('Webhooks are late by the delay, and keep their order.', async t => {
  const { simulator, update } = await setUp(t)
  simulator.faults.webhooks.set({ delayMs: 60 })
  const startedAt = performance.now()
  t.strictSame(await update(5), inOrder(5))
  const elapsedMs = performance.now() - startedAt
  t.ok(elapsedMs >= 59 && elapsedMs < 290, `${elapsedMs} ms: they wait together, not one after the other`)
})

t.test('A share of the webhooks is signed with another secret, until the fault ends.', async t => {
  const isRight = (one: Received, secret = newSecret): boolean => {
    try { return verified(one, secret) !== null } catch { return false }
  }
  const answer = (one: Received): number => isRight(one) ? 204 : 400
  const options = { answer, webhookSecret: newSecret, webhookRetryDelaysMs: [30] }
  const { simulator, received, update } = await setUp(t, options)
  simulator.faults.webhooks.set({ secret: oldSecret })
  const sent = update(1)
  while (received.length === 0) await new Promise(resolve => { setImmediate(resolve) })
  simulator.faults.webhooks.set(null)
  await sent
  t.strictSame(received.map(one => isRight(one, oldSecret)), [true, false])
  t.strictSame(received.map(one => isRight(one)), [false, true], 'the retry is signed anew, with its own')

  received.length = 0
  simulator.faults.webhooks.set({ secret: oldSecret, secretRatio: 0.5 })
  await update(20)
  const right = received.filter(one => isRight(one)).length
  const old = received.filter(one => isRight(one, oldSecret)).length
  t.ok(right > 2 && right < 18, `${right} of 20 are right`)
  t.equal(old, 2 * (20 - right), 'the others are tried twice with the old one')
})

t.test('A webhook that gets no 2xx is sent again: the same id, a new timestamp and a new signature.', async t => {
  const clock = new ManualClock({ now: Date.now() })
  let statuses: Array<number | null> = []
  const answer = (): number => {
    clock.advance(10_000)
    return statuses.shift() ?? 204
  }
  const { simulator, received, user } = await setUp(t, { clock, answer, webhookRetryDelaysMs: [1, 5] })
  const attempts = async (...answers: number[]): Promise<Array<number | null>> => {
    received.length = 0
    statuses = [...answers]
    await simulator.updateUser(user.id, { firstName: 'A' })
    const id = (await simulator.deliveries()).at(-1)?.messageId
    t.ok(received.every(one => idOf(one) === id), 'the same id')
    for (const header of ['svix-timestamp', 'svix-signature']) {
      const values = received.map(({ headers }) => headers[header])
      t.equal(new Set(values).size, received.length, `each has its own ${header}`)
    }
    for (const one of received) t.match(verified(one, simulator.webhookSecret), { type: 'user.updated' })
    const mine = (await simulator.deliveries()).filter(({ messageId }) => messageId === id)
    t.strictSame(mine.map(({ attempt }) => attempt), received.map((_, index) => index + 1))
    return mine.map(({ status }) => status)
  }
  t.strictSame(await attempts(204), [204])
  t.strictSame(await attempts(503), [503, 204])
  t.strictSame(await attempts(302, 400), [302, 400, 204], 'a redirect and a refusal are failures, too')
  t.strictSame(await attempts(500, 500, 500), [500, 500, 500], 'after the last delay it gives up')
})

t.test('A retry does not hold up what comes later, and ends with its endpoint.', async t => {
  const answer = (one: Received): number => nameIn(one) === 'bad' ? 500 : 204
  const { simulator, endpoint, received, user } = await setUp(t, { answer, webhookRetryDelaysMs: [40] })
  await simulator.updateUser(user.id, { firstName: 'bad' })
  await simulator.updateUser(user.id, { firstName: 'good' })
  await simulator.deliveries()
  t.strictSame(received.map(nameIn), ['bad', 'good', 'bad'])

  await simulator.updateUser(user.id, { firstName: 'bad' })
  while (received.length < 4) await new Promise(resolve => { setImmediate(resolve) })
  await simulator.removeWebhookEndpoint(endpoint.id)
  await simulator.deliveries()
  t.equal(received.length, 4, 'a removed endpoint gets no retry')
  const { messageId } = (await simulator.deliveries())[0]!
  await t.rejects(simulator.redeliver(messageId), { statusCode: 404, message: /webhook endpoint/ })
})

t.test('Several webhooks are under way to one endpoint at a time when told so, and else one.', async t => {
  for (const maxInFlight of [undefined, 4]) {
    let underWay = 0
    let most = 0
    const answer = async (): Promise<number> => {
      most = Math.max(most, ++underWay)
      await new Promise(resolve => { setTimeout(resolve, 15) })
      underWay--
      return 204
    }
    const { simulator, update } = await setUp(t, { answer })
    simulator.faults.webhooks.set(maxInFlight === undefined ? null : { maxInFlight })
    t.equal((await update(12)).length, 12)
    t.equal(most, maxInFlight ?? 1)
  }
})

t.test('A replay sends what was delivered before once more, by its id.', async t => {
  const { clerk, simulator, received, update } = await setUp(t)
  await update(2)
  const { messageId } = (await simulator.deliveries()).at(-2)!
  const replayed = await clerk.inject({ method: 'POST', url: `/control/deliveries/${messageId}/redeliver` })
  t.match(replayed, { statusCode: 200 })
  t.match(replayed.json(), { messageId, attempt: 2, status: 204, type: 'user.updated' })
  t.strictSame(received.map(nameIn), ['0', '1', '0'])
  t.equal(idOf(received[2]!), idOf(received[0]!))
  t.equal((await clerk.inject({ method: 'POST', url: '/control/deliveries/msg_unknown/redeliver' })).statusCode, 404)
  const events = (await clerk.inject('/control/events')).json<Array<{ readonly type: string }>>()
  t.strictSame(events.map(({ type }) => type), ['user.created', 'user.updated', 'user.updated'])
})

t.test('Faults of webhooks are set and ended over HTTP, and a value out of its bounds is refused.', async t => {
  const { clerk, simulator } = await setUp(t)
  const put = async (payload: object) => await clerk.inject({ method: 'PUT', url: '/control/faults/webhooks', payload })
  const fault: WebhookFault = {
    dropRatio: 0.1, duplicateRatio: 0.3, reorderWithin: 20, delayMs: 5, secret: oldSecret, secretRatio: 0.2, maxInFlight: 8
  }
  t.strictSame((await put(fault)).json(), fault)
  t.strictSame((await clerk.inject('/control/faults')).json(), { jwks: null, users: null, webhooks: fault })
  const refused = [
    { dropRatio: 1.1 }, { dropRatio: -0.1 }, { duplicateRatio: 2 }, { reorderWithin: 1.5 }, { reorderWithin: -1 },
    { delayMs: -1 },
    { delayMs: 2 ** 31 }, { secretRatio: 2 }, { secret: 'short' }, { maxInFlight: 0 }
  ]
  for (const payload of refused) {
    t.match(await put(payload), { statusCode: 422 }, JSON.stringify(payload))
    t.throws(() => { simulator.faults.webhooks.set(payload) }, { statusCode: 422, code: 'form_param_value_invalid' })
  }
  for (const payload of [{ dropRatio: '1' }, { kind: 'slow' }, { secret: '' }]) {
    t.match(await put(payload), { statusCode: 400 }, JSON.stringify(payload))
  }
  t.strictSame(simulator.faults.webhooks.fault, fault, 'what is refused changes nothing')
  t.equal((await clerk.inject({ method: 'DELETE', url: '/control/faults/webhooks' })).statusCode, 204)
  t.equal(simulator.faults.webhooks.fault, null)
})

t.test('Closing gives up what waits: a delay, a retry, and what is held.', async t => {
  for (const fault of [{ delayMs: 600_000 }, { reorderWithin: 100 }, null]) {
    const { clerk, simulator, user } = await setUp(t, { webhookRetryDelaysMs: [600_000] })
    simulator.faults.webhooks.set(fault)
    await simulator.addWebhookEndpoint({ url: 'http://127.0.0.1:1/' })
    await simulator.updateUser(user.id, { firstName: 'A' })
    await clerk.close()
    const deliveries = await simulator.deliveries()
    t.ok(deliveries.every(({ status, failure }) => status === 204 || failure !== null), JSON.stringify(fault))
  }
})
