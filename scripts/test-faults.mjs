#!/usr/bin/env node
// Runs the slow, violent tests of every package that has a folder `faults/` and closes with a table of what was injected, seen and reached: a test tells
// it by a comment that is a JSON object with these keys. Arguments are names of packages; without one, all of them.
import { spawn } from 'node:child_process'
import { createReadStream, createWriteStream, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
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
    console.log(`\n# ${folder}`)
    const file = join(results, `${index}.tap`)
    const failed = await run(folder, files, file)
    const counted = await countTestCases(createReadStream(file))
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

/** Runs the files, shows each test as it ends, keeps the whole in a file, and answers whether tap failed. */
async function run (folder, files, file) {
  const child = spawn('tap', ['--disable-coverage', '--timeout=600', '--jobs=1', '--reporter=tap', ...files], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] })
  const gone = new Promise((resolve, reject) => { child.once('error', reject).once('exit', resolve) })
  const parser = new Parser()
  const told = new Promise(resolve => { parser.once('complete', resolve) })
  parser.on('child', ofFile => {
    ofFile.on('child', test => {
      const comments = []
      test.on('comment', comment => { comments.push(comment) })
      test.on('complete', ({ ok }) => {
        console.log(`${ok ? 'ok' : 'FAILED'} ${test.name}`)
        for (const comment of comments) {
          const object = /^# (\{.*\})\s*$/s.exec(comment)?.[1]
          if (object !== undefined) rows.push({ folder, test: test.name, ok, ...JSON.parse(object) })
        }
      })
      test.on('assert', ({ ok, name, skip }) => { if (!ok && !skip) console.log(`  not ok ${name}`) })
    })
    ofFile.on('assert', ({ name, skip }) => { if (skip) console.log(`skipped ${name}: ${skip}`) })
  })
  child.stdout.pipe(parser)
  child.stdout.pipe(createWriteStream(file))
  const code = await gone
  await told
  return code !== 0
}
