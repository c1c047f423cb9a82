// Lints, builds, type-checks and tests every package, goes on past a failure, and closes with every test that failed or was skipped and the
// true totals. Runs under `pnpm exec`. Arguments go to turbo: `npm test -- --force` ignores its cache.
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { run } from './run.mjs'
import { listed } from './testing/listed.mjs'
import { testMachine } from './testing/test-machine.mjs'
import { count, totals } from './testing/test-totals.mjs'

const root = new URL('..', import.meta.url)
const begun = performance.now()
const testable = ['packages', 'examples'].flatMap(parent => readdirSync(new URL(`${parent}/`, root)).map(name => `${parent}/${name}`))
  .filter(folder => existsSync(new URL(`${folder}/test`, root)))
for (const folder of testable) rmSync(new URL(`${folder}/test-results.json`, root), { force: true })

// What came of the tests on another machine is not taken from turbo's cache.
process.env.ORIENTOR_TEST_MACHINE = testMachine()
const areStepsFine = await run('turbo', ['run', 'eslint', 'sherif', 'untested-sources', 'build', 'typecheck', 'test', '--continue', ...process.argv.slice(2)])

console.log('\n# test cases\n')
const all = []
for (const folder of testable) {
  const { name } = JSON.parse(readFileSync(new URL(`${folder}/package.json`, root), 'utf8'))
  const results = new URL(`${folder}/test-results.json`, root)
  const cases = existsSync(results)
    ? JSON.parse(readFileSync(results, 'utf8')).flatMap(({ file, cases }) => cases.map(testCase => ({ ...testCase, file: `${folder}/${file}` })))
    : [{ file: folder, name: 'all of its tests', outcome: 'failed', why: 'It did not get as far as its tests: see above.' }]
  all.push(...cases)
  console.log(`${name}: ${count(totals(cases))}`)
}
console.log(listed(all))
const counted = totals(all)
console.log(`${count(counted)} in ${Math.round((performance.now() - begun) / 1000)} s`)
if (!areStepsFine && counted.failed === 0) console.log('The tests passed and another step failed: see "Failed:" above.')
// Where CI installs every program that a test needs, a skip hides what was not tested.
const isSkipFailure = counted.skipped > 0 && process.env.CI === 'true'
if (isSkipFailure) console.log('Skipped tests are failures where CI=true.')
process.exitCode = !areStepsFine || counted.failed > 0 || isSkipFailure ? 1 : 0
