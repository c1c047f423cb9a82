#!/usr/bin/env node
// Names the source files of the published packages that no test reaches through imports: coverage does not see them.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const packages = fileURLToPath(new URL('../packages/', import.meta.url))
const relativeImport = /(?:from|import\() ?'(\.[^']+)\.js'/g
let untested = 0

for (const name of readdirSync(packages)) {
  const manifest = join(packages, name, 'package.json')
  if (!existsSync(manifest) || JSON.parse(readFileSync(manifest, 'utf8')).private) continue
  const reached = new Set()
  for (const file of sources(join(packages, name, 'test'))) reach(file, reached)
  for (const file of sources(join(packages, name, 'src'))) {
    if (reached.has(file)) continue
    untested++
    console.log(`no test imports ${file.slice(packages.length)}`)
  }
}
process.exitCode = untested > 0 ? 1 : 0

function sources (folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter(entry => entry.isFile() && entry.name.endsWith('.ts'))
    .map(entry => join(entry.parentPath, entry.name))
}

function reach (file, reached) {
  if (reached.has(file) || !existsSync(file)) return
  reached.add(file)
  for (const [, path] of readFileSync(file, 'utf8').matchAll(relativeImport)) reach(join(dirname(file), `${path}.ts`), reached)
}
