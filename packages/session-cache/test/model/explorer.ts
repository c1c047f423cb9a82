import { parentPort, workerData } from 'node:worker_threads'
import { explore } from './schedules.js'

// A thread of its own: the hooks by which a test runner follows promises make each of the many here several times as dear.
const { numRuns, seed } = workerData as { readonly numRuns: number, readonly seed: number }
parentPort!.postMessage(await explore(numRuns, seed).catch((error: unknown) => {
  const { message, cause } = error as Error
  return { counterexample: `${message}\n${cause instanceof Error ? cause.message : ''}` }
}))
