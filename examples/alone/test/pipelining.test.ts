import t from 'tap'
import { pipelined } from './fixtures/pipelined.js'

t.test('10,000 pipelined requests of mixed users, cookies and bad tokens: each answer names who sent the request', async t => {
  const { answers, mixUps, users } = await pipelined(10_000)
  t.equal(answers, 10_000)
  t.same(mixUps, [])
  t.ok(users > 4000, `${users} of them name a user`)
})
