/**
 * Module hooks that blank out types, so that each line and column of what runs is that of the source: stack traces and coverage need
 * no source map. Stripped text is kept in `node_modules/.cache`, by the hash of its source: each file is compiled once.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const require = createRequire(import.meta.url)
const { version } = require('@swc/wasm-typescript/package.json')
const cache = fileURLToPath(new URL(`../../node_modules/.cache/strip-types-${version}/`, import.meta.url))

/** TypeScript names the file that is built: `./x.js` is `./x.ts` where only that is there. */
export async function resolve (specifier, context, nextResolve) {
  if (/^\.\.?\/.*\.js$/.test(specifier) && context.parentURL?.endsWith('.ts')) {
    const source = new URL(specifier.replace(/js$/, 'ts'), context.parentURL)
    if (existsSync(source)) return { url: source.href, format: 'module', shortCircuit: true }
  }
  return await nextResolve(specifier, context)
}

export async function load (url, context, nextLoad) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return await nextLoad(url, context)
  return { format: 'module', source: strip(readFileSync(fileURLToPath(url), 'utf8'), url), shortCircuit: true }
}

function strip (source, url) {
  const kept = `${cache}${createHash('sha256').update(source).digest('hex')}.js`
  if (existsSync(kept)) return readFileSync(kept, 'utf8')
  // Loaded late: with everything in the cache it is not needed.
  const { code } = require('@swc/wasm-typescript').transformSync(source, { mode: 'strip-only', filename: fileURLToPath(url) })
  keep(kept, code)
  return code
}

/** Another process may keep the same text at the same time; a checkout that cannot be written does without. */
function keep (file, code) {
  try {
    mkdirSync(cache, { recursive: true })
    writeFileSync(`${file}.${process.pid}`, code)
    renameSync(`${file}.${process.pid}`, file)
  } catch {}
}
