import { spawn } from 'node:child_process'
import { testCases } from './test-cases.mjs'

const stripTypes = new URL('./strip-types.mjs', import.meta.url).href

/**
 * Runs test files, each in a Node.js process of its own, as many at a time as told, and answers what came of each, in the order of the files.
 *
 * @param {string[]} files
 * @param {object} how
 * @param {string} how.cwd
 * @param {number} how.jobs
 * @param {number} how.timeoutSeconds - of a file
 * @param {number} [how.graceSeconds] - how much later the file is killed: until then it may end by itself and tell what ran
 * @param {Record<string, string>} [how.environment] - beside that of this process
 * @param {(result: object) => void} [how.ended] - is told each result at once
 * @returns {Promise<{ file: string, ms: number, cases: object[], tap: string, words: string }[]>} `words`: what the file wrote beside its TAP
 */
export async function runTestFiles (files, { ended = () => {}, jobs, ...how }) {
  const results = []
  const waiting = [...files.entries()]
  await Promise.all(Array.from({ length: Math.min(jobs, files.length) }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [index, file] = next
      results[index] = await runFile(file, how)
      ended(results[index])
    }
  }))
  return results
}

async function runFile (file, { cwd, timeoutSeconds, graceSeconds = 15, environment = {} }) {
  const begun = performance.now()
  const child = spawn(process.execPath, ['--import', stripTypes, file], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TAP_TIMEOUT: String(timeoutSeconds), TAP_CHILD_ID: file, ...environment }
  })
  let tap = ''
  let complaints = ''
  child.stdout.setEncoding('utf8').on('data', chunk => { tap += chunk })
  child.stderr.setEncoding('utf8').on('data', chunk => { complaints += chunk })
  // What a test left running may hold the output open.
  child.once('exit', () => { setTimeout(() => { for (const stream of [child.stdout, child.stderr]) stream.destroy() }, 5000).unref() })
  // tap ends in time, and tells what ran, unless the event loop stands still.
  const impatience = setTimeout(() => { child.kill('SIGKILL') }, (timeoutSeconds + graceSeconds) * 1000)
  const how = await new Promise((resolve, reject) => { child.once('error', reject).once('close', (code, signal) => { resolve(signal ?? code) }) })
  clearTimeout(impatience)
  const { cases, words } = testCases(tap, file)
  const failed = cases.filter(({ outcome }) => outcome === 'failed')
  // What no test of its own failed by is known from how the process ended alone.
  if (how !== 0 && failed.every(({ name }) => name === file)) {
    const why = [...failed.map(({ why }) => why), `The process ended with ${how}.`, complaints.trimEnd()].join('\n')
    cases.splice(cases.length - failed.length, failed.length, { name: file, outcome: 'failed', why })
  }
  return { file, ms: performance.now() - begun, cases, tap, words: words + complaints }
}
