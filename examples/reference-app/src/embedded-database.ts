import { createHash } from 'node:crypto'
import { accessSync, chmodSync, constants, lstatSync, mkdirSync } from 'node:fs'
import { userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import { canReach, serverAccount, startPostgres } from '@orientor/test-kit'
import { FolderInUse, lockFolder } from './folder-lock.js'

/** A PostgreSQL of the app's own, whose data outlives the run. */
export interface EmbeddedDatabase {
  readonly url: string
  /** Where the data is. */
  readonly folder: string
  stop (): Promise<void>
}

/**
 * Starts PostgreSQL on the folder. The server of an earlier run that was killed is ended first.
 *
 * @throws when another living process uses the folder
 */
export async function startEmbeddedDatabase (folder: string): Promise<EmbeddedDatabase> {
  const unlock = take(folder)
  try {
    const server = await startPostgres({ folder })
    return { url: server.url(), folder, stop: async () => { await server.stop(); unlock() } }
  } catch (error) {
    unlock()
    throw error
  }
}

function take (folder: string): () => void {
  try {
    return lockFolder(folder)
  } catch (error) {
    if (!(error instanceof FolderInUse)) throw error
    throw new Error(`The embedded database is in use: the app runs already, as process ${error.pid}. Stop that one first, or give this one a database: DATABASE_URL=postgres://user:password@host:5432/database`)
  }
}

/**
 * Where the data of the checkout at `root` is kept: `.orientor/postgres` in it; where the account of the server cannot reach that
 * (root, with a home of mode 0700) or this process cannot write there, a folder of this user in `/tmp`.
 */
export function dataFolder (root: string): string {
  const here = join(root, '.orientor', 'postgres')
  if (canReach(serverAccount(), join(here, 'data')) && isWritable(root)) {
    mkdirSync(here, { recursive: true })
    return here
  }
  const { uid } = userInfo()
  const ownFolder = join('/tmp', `orientor-${uid}`)
  mkdirSync(ownFolder, { recursive: true, mode: 0o755 })
  const stats = lstatSync(ownFolder)
  if (!stats.isDirectory() || stats.uid !== uid || (stats.mode & 0o022) !== 0) {
    throw new Error(`${ownFolder} is not a folder that this user alone can write. Remove it, or set DATABASE_URL to a PostgreSQL of your own.`)
  }
  chmodSync(ownFolder, 0o755)
  const there = join(ownFolder, createHash('sha256').update(root).digest('hex').slice(0, 12))
  mkdirSync(there, { recursive: true })
  return there
}

function isWritable (folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** The nearest folder above that holds `pnpm-workspace.yaml`. */
export function checkoutRoot (start: string): string {
  for (let folder = start; ; folder = dirname(folder)) {
    if (lstatSync(join(folder, 'pnpm-workspace.yaml'), { throwIfNoEntry: false }) !== undefined) return folder
    if (folder === dirname(folder)) throw new Error(`${start} is not in a checkout of the repository. Set DATABASE_URL.`)
  }
}
