import { spawnSync } from 'node:child_process'
import { serverAccount } from './server-account.js'
import { serverBinaries } from './server-binaries.js'

/**
 * The major version of the PostgreSQL that servers are started of, such as 18. For tests of what older ones cannot do: the suite runs on every
 * version that the README names.
 */
export function postgresMajor (): number {
  const { stdout } = spawnSync(serverBinaries(serverAccount()).postgres, ['--version'], { encoding: 'utf8' })
  return Number(/\d+/.exec(stdout)![0])
}
