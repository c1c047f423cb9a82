// Runs the slow, violent tests of every package that has a folder `faults/`, as `npm test` runs the others, and closes with a table of what was injected,
// seen and reached: a test tells it by a comment that is a JSON object with these keys. Arguments are names of packages; without one, all of them.
import { existsSync, readdirSync } from 'node:fs'
import { Parser } from 'tap-parser'
import { listed } from './testing/listed.mjs'
import { runTestFiles } from './testing/run-test-files.mjs'
import { count, totals } from './testing/test-totals.mjs'

const timeoutSeconds = 600
const wanted = process.argv.slice(2)
const folders = ['packages', 'examples'].flatMap(parent => readdirSync(parent).map(name => `${parent}/${name}`))
  .filter(folder => existsSync(`${folder}/faults`) && (wanted.length === 0 || wanted.some(name => folder.endsWith(`/${name}`))))
const all = []
const rows = []

for (const folder of folders) {
  const files = readdirSync(`${folder}/faults`).filter(file => file.endsWith('.faults.ts')).sort().map(file => `faults/${file}`)
  console.log(`\n# ${folder}: ${files.join(', ')}`)
  // One at a time: what a fault does to the machine is not to reach another test.
  const results = await runTestFiles(files, { cwd: folder, jobs: 1, timeoutSeconds, ended: result => { rows.push(...told(folder, result)) } })
  const cases = results.flatMap(({ file, cases }) => cases.map(testCase => ({ ...testCase, file: `${folder}/${file}` })))
  console.log(count(totals(cases)))
  all.push(...cases)
}

console.log('\n# injected, seen, reached')
for (const { folder, test, ok, injected, seen, reached, ...rest } of rows) {
  console.log(`\n${ok ? '  ' : '✗ '}${folder.replace(/^\w+\//, '')}: ${test}`)
  for (const [name, value] of Object.entries({ injected, seen, reached, ...rest })) {
    if (value !== undefined) console.log(`    ${name.padEnd(9)} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
  }
}
const counted = totals(all)
console.log(`${listed(all)}\n${count(counted)}`)
// Where CI installs every program that a fault needs, a skip hides one that was not injected.
process.exitCode = counted.failed > 0 || (counted.skipped > 0 && process.env.CI === 'true') || (wanted.length > 0 && folders.length === 0) ? 1 : 0

/** What the tests of a file told, in order: those at the top of it. */
function told (folder, { tap }) {
  const found = []
  const parser = new Parser()
  parser.on('child', test => {
    const mine = []
    test.on('comment', comment => {
      const object = /^# (\{.*\})\s*$/s.exec(comment)?.[1]
      if (object !== undefined) mine.push(JSON.parse(object))
    })
    test.on('complete', ({ ok }) => { for (const row of mine) found.push({ folder, test: test.name, ok, ...row }) })
  })
  parser.on('assert', ({ name, skip }) => { if (skip) found.push({ folder, test: name, ok: true, skipped: String(skip) }) })
  parser.end(tap)
  return found
}
