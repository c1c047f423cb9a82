import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import type { Explored } from './fixtures/model/schedules.js'

const schedules = Number(process.env['ORIENTOR_SCHEDULES'] ?? 10_000)
const threads = 2

t.setTimeout(240_000)

/** Explores in a thread; see explorer.ts. */
async function explore (numRuns: number, seed: number): Promise<Explored | { readonly counterexample: string }> {
  const worker = new Worker(new URL('./fixtures/model/explorer.ts', import.meta.url), { workerData: { numRuns, seed } })
  const [answer] = await Promise.race([once(worker, 'message'), once(worker, 'exit')]) as [Explored | { readonly counterexample: string }]
  await worker.terminate()
  return answer
}

t.test('no schedule of loads, changes, proofs, failures and clocks breaks a promise', async t => {
  const seed = Number(process.env['ORIENTOR_SEED'] ?? Math.trunc(Math.random() * 2 ** 31))
  const answers = await Promise.all(Array.from({ length: threads }, (_, thread) => explore(Math.ceil(schedules / threads), seed + thread)))
  const sum = (count: keyof Explored): number => answers.reduce((total, answer) => total + ('counterexample' in answer ? 0 : answer[count]), 0)
  for (const answer of answers) if ('counterexample' in answer) t.fail(answer.counterexample)
  t.comment(`seed ${seed}: ${sum('schedules')} schedules, ${sum('lookups')} lookups, ${sum('stale')} answered stale, ${sum('overtaken')} loads overtaken, ${sum('elsewhere')} read elsewhere, the gate opened ${sum('openings')} times`)
  t.ok(sum('schedules') >= schedules)
  t.ok(sum('lookups') > 2 * schedules && sum('stale') > 0 && sum('overtaken') > 0 && sum('elsewhere') > 0 && sum('openings') > 0, 'they are about something')
})
