#!/usr/bin/env node
// Runs the slow, violent tests of every package that has a folder `faults/` and closes with a table of what was injected, seen and reached: a test tells
// it by a comment that is a JSON object with these keys. Arguments are names of packages; without one, all of them.
import { spawn } from 'node:child_process'
import { createReadStream, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Parser } from 'tap-parser'
import { countTestCases } from './count-test-cases.mjs'

const wanted = process.argv.slice(2)
const folders = ['packages', 'examples'].flatMap(parent => readdirSync(parent).map(name => `${parent}/${name}`))
  .filter(folder => existsSync(`${folder}/faults`) && (wanted.length === 0 || wanted.some(name => folder.endsWith(`/${name}`))))
const totals = { passed: 0, failed: 0, skipped: 0 }
const rows = []
const results = mkdtempSync(join(tmpdir(), 'orientor-faults-'))
try {
  for (const [index, folder] of folders.entries()) {
    const files = readdirSync(`${folder}/faults`).filter(file => file.endsWith('.faults.ts')).map(file => `faults/${file}`)
    console.log(`\n# ${folder}: ${files.join(', ')}`)
    const file = join(results, `${index}.tap`)
    const failed = await run(folder, files, file)
    if (failed) console.log(readFileSync(file, 'utf8'))
    const counted = await countTestCases(createReadStream(file))
    rows.push(...await told(folder, file))
    if (failed && counted.failed === 0) counted.failed = 1
    for (const kind of Object.keys(totals)) totals[kind] += counted[kind]
  }
} finally {
  rmSync(results, { recursive: true, force: true })
}

console.log('\n# injected, seen, reached')
for (const { folder, test, ok, injected, seen, reached, ...rest } of rows) {
  console.log(`\n${ok ? '  ' : '✗ '}${folder.replace(/^\w+\//, '')}: ${test}`)
  for (const [name, value] of Object.entries({ injected, seen, reached, ...rest })) {
    if (value !== undefined) console.log(`    ${name.padEnd(9)} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
  }
}
console.log(`\n${totals.passed} passed, ${totals.failed} failed${totals.skipped > 0 ? `, ${totals.skipped} skipped` : ''}`)
// Where CI installs every program that a fault needs, a skip hides one that was not injected.
process.exitCode = totals.failed > 0 || (totals.skipped > 0 && process.env.CI === 'true') || (wanted.length > 0 && folders.length === 0) ? 1 : 0

/** Runs the files, keeps their TAP in a file, and answers whether tap failed. */
async function run (folder, files, file) {
  const child = spawn('tap', ['--disable-coverage', '--timeout=600', '--jobs=1', '--reporter=silent', `--output-file=${file}`, ...files], { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] })
  return await new Promise((resolve, reject) => { child.once('error', reject).once('exit', code => { resolve(code !== 0) }) })
}

/** What the tests of a package told, in order: those at the top of each file. */
async function told (folder, file) {
  const found = []
  const parser = new Parser()
  parser.on('child', ofFile => {
    ofFile.on('child', test => {
      const mine = []
      test.on('comment', comment => {
        const object = /^# (\{.*\})\s*$/s.exec(comment)?.[1]
        if (object !== undefined) mine.push(JSON.parse(object))
      })
      test.on('complete', ({ ok }) => { for (const row of mine) found.push({ folder, test: test.name, ok, ...row }) })
    })
    ofFile.on('assert', ({ name, skip }) => { if (skip) found.push({ folder, test: name, ok: true, skipped: String(skip) }) })
  })
  const complete = new Promise(resolve => { parser.once('complete', resolve) })
  createReadStream(file).pipe(parser)
  await complete
  return found
}
