#!/usr/bin/env node
// Runs the tests of the package in the current folder: all of them, or the files of one package that are named.
//
//   node scripts/test-package.mjs [--coverage <percent>] [--branches <percent>]
//   node scripts/test-package.mjs [--test 'title › title inside'] packages/<name>/test/<file>.test.ts …
//
// --coverage: what share of its src/ all tests together must reach, in lines, branches, functions and statements; --branches: another one for branches
// --test: only tests whose titles contain these words, level by level, as they are listed when they fail
// What came of all of them is kept in test-results.json, where `npm test` counts.
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { onlyTests } from './testing/only-tests.mjs'
import { runTestFiles } from './testing/run-test-files.mjs'
import { meetsCoverage } from './testing/test-coverage.mjs'
import { count, totals } from './testing/test-totals.mjs'

const timeoutSeconds = 240
const resultsFile = 'test-results.json'

const { values: { test, coverage, branches = coverage }, positionals } = parseArgs({
  options: { test: { type: 'string' }, coverage: { type: 'string' }, branches: { type: 'string' } }, allowPositionals: true
})
const isWhole = positionals.length === 0
if (isWhole && test !== undefined) throw new Error(`Name the file of the test ${JSON.stringify(test)}: packages/<name>/test/<file>.test.ts`)
const folder = isWhole ? process.cwd() : packageOf(resolve(positionals[0]))
const files = isWhole ? testFiles() : positionals.map(file => relative(folder, resolve(file)))
const v8Coverage = isWhole && coverage !== undefined ? mkdtempSync(join(tmpdir(), 'orientor-coverage-')) : null
try {
  if (isWhole) rmSync(resultsFile, { force: true })
  const results = await runTestFiles(files, {
    cwd: folder,
    jobs: availableParallelism(),
    timeoutSeconds,
    environment: { ...test !== undefined && onlyTests(test), ...v8Coverage !== null && { NODE_V8_COVERAGE: v8Coverage } },
    ended: tell
  })
  const counted = totals(results.flatMap(({ cases }) => cases))
  console.log(count(counted))
  const percent = Number(coverage)
  const isCovered = v8Coverage === null || counted.failed > 0 ||
    await meetsCoverage(v8Coverage, { lines: percent, statements: percent, functions: percent, branches: Number(branches) })
  if (isWhole) writeFileSync(resultsFile, JSON.stringify(results.map(({ file, ms, cases }) => ({ file, ms: Math.round(ms), cases })), null, 1))
  process.exitCode = counted.failed > 0 || !isCovered ? 1 : 0
} finally {
  if (v8Coverage !== null) rmSync(v8Coverage, { recursive: true, force: true })
}

/** The largest first: it is likely to take longest, and nothing runs beside the last. */
function testFiles () {
  return readdirSync('test').filter(file => file.endsWith('.test.ts')).map(file => `test/${file}`).sort((one, other) => statSync(other).size - statSync(one).size)
}

/** The folder of the package that a file belongs to. */
function packageOf (file) {
  const parent = dirname(file)
  return existsSync(join(parent, 'package.json')) || parent === file ? parent : packageOf(parent)
}

function tell ({ file, ms, cases, words }) {
  const counted = totals(cases)
  console.log(`${counted.failed > 0 ? '✗' : '✓'} ${file}: ${count(counted)} (${(ms / 1000).toFixed(1)} s)`)
  for (const { name, why } of cases.filter(({ outcome }) => outcome === 'failed')) console.log(`\n  ✗ ${name}\n${why.replace(/^/gm, '    ')}\n`)
  if (words !== '' && !isWhole) console.error(words.trimEnd())
}
