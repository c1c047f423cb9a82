// Takes promises out of copies of the packages, one at a time, and expects their tests to fail; see mutants.mjs.
// `npm run test:mutants -- floor` runs those whose name or file has the word.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { mutants } from './mutants.mjs'
import { listed } from './testing/listed.mjs'
import { runTestFiles } from './testing/run-test-files.mjs'
import { totals } from './testing/test-totals.mjs'

const root = resolve(import.meta.dirname, '..')
const word = process.argv[2] ?? ''
const chosen = mutants.filter(({ name, file }) => name.includes(word) || file.includes(word))
const copy = mkdtempSync(join(tmpdir(), 'orientor-mutants-'))
const results = []
// The same schedules each time, so that a mutant is not noticed by luck.
const exploration = { ORIENTOR_SCHEDULES: '10000', ORIENTOR_SEED: '1' }

try {
  for (const name of readdirSync(root)) {
    if (/^(tsconfig.*\.json|package\.json)$/.test(name)) cpSync(join(root, name), join(copy, name))
  }
  // Tests run what the documents say.
  cpSync(join(root, 'docs'), join(copy, 'docs'), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'), 'junction')
  for (const folder of new Set(chosen.map(({ file }) => folderOf(file)))) copyPackage(folder)

  // A test that fails on the code as it is would notice anything.
  const green = new Map()
  for (const mutant of chosen) {
    const suite = `${folderOf(mutant.file)} ${mutant.tests.join(' ')}`
    if (!green.has(suite)) {
      const { passed, output } = await run(mutant)
      green.set(suite, passed)
      if (!passed) console.log(output.slice(-4000))
    }
    const source = readFileSync(join(root, mutant.file), 'utf8')
    const found = source.split(mutant.without).length - 1
    if (!green.get(suite)) report(mutant, 'INVALID: its tests fail on the code as it is')
    else if (found !== 1) report(mutant, `INVALID: what it takes out occurs ${found} times`)
    else {
      writeFileSync(join(copy, mutant.file), source.replace(mutant.without, () => mutant.put))
      const { passed, ms } = await run(mutant)
      writeFileSync(join(copy, mutant.file), source)
      report(mutant, passed ? 'SURVIVED' : 'noticed', ms)
    }
  }
} finally {
  rmSync(copy, { recursive: true, force: true })
}

const bad = results.filter(({ verdict }) => verdict !== 'noticed')
console.log(`\n${results.length} mutants, ${results.length - bad.length} noticed`)
process.exitCode = bad.length > 0 || results.length === 0 ? 1 : 0

function folderOf (file) {
  return file.split('/').slice(0, 2).join('/')
}

function copyPackage (folder) {
  const target = join(copy, folder)
  mkdirSync(target, { recursive: true })
  for (const name of readdirSync(join(root, folder))) {
    // With dist: a test may load what is built beside what it tests, as another copy.
    if (!['node_modules', '.tap', '.turbo', 'test-results.json'].includes(name)) cpSync(join(root, folder, name), join(target, name), { recursive: true })
  }
  if (existsSync(join(root, folder, 'node_modules'))) symlinkSync(join(root, folder, 'node_modules'), join(target, 'node_modules'), 'junction')
}

async function run ({ file, tests }) {
  const begun = Date.now()
  const how = { cwd: join(copy, folderOf(file)), jobs: 1, timeoutSeconds: 300, environment: { ...exploration, TAP_BAIL: '1' } }
  // The first test that notices is enough.
  for (const test of tests) {
    const [{ cases }] = await runTestFiles([test], how)
    if (totals(cases).failed > 0) return { passed: false, ms: Date.now() - begun, output: listed(cases.map(testCase => ({ ...testCase, file: test }))) }
  }
  return { passed: true, ms: Date.now() - begun, output: '' }
}

function report (mutant, verdict, ms = 0) {
  results.push({ verdict })
  console.log(`${verdict.padEnd(9)} ${String(Math.round(ms / 1000)).padStart(4)} s  ${folderOf(mutant.file).slice(9).padEnd(17)} ${mutant.name}`)
}
