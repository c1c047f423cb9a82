import t from 'tap'
import { pipelined } from '../test/fixtures/pipelined.js'

t.test('200,000 pipelined requests of mixed users, cookies and bad tokens: each answer names who sent the request', { timeout: 300_000 }, async t => {
  const { answers, mixUps, users } = await pipelined(200_000)
  t.comment(JSON.stringify({ injected: 'bad tokens, foreign and stale cookies, bounds below the number of users', seen: `${answers} answers, ${users} of them with a user`, reached: `${mixUps.length} mix-ups` }))
  t.equal(answers, 200_000)
  t.same(mixUps.slice(0, 10), [])
})
