import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canReach, serverAccount, type ServerAccount } from './server-account.js'
import { serverBinaries } from './server-binaries.js'

/** The folder `data` of a cluster, as PostgreSQL keeps it. */
export function dataOf (folder: string): string {
  return join(folder, 'data')
}

/** The password of the superuser, which is kept beside the data. */
export function passwordOf (folder: string): string {
  return readFileSync(join(folder, 'password'), 'utf8').trim()
}

export function hasCluster (folder: string): boolean {
  return existsSync(join(dataOf(folder), 'PG_VERSION'))
}

/** Makes a temporary folder that the account of the server can reach. */
export function temporaryFolder (parent: string = tmpdir()): string {
  return mkdtempSync(join(canReach(serverAccount(), join(parent, 'x')) ? parent : '/tmp', 'orientor-postgres-'))
}

/**
 * Makes a cluster in a folder, with a random password.
 *
 * @throws with what initdb said
 */
export function createCluster (folder: string): void {
  const account = serverAccount()
  const data = dataOf(folder)
  const password = join(folder, 'password')
  if (!existsSync(password)) writeFileSync(password, `${randomBytes(18).toString('base64url')}\n`, { mode: 0o600 })
  mkdirSync(data, { recursive: true, mode: 0o700 })
  own([folder, password, data], account)
  const { status, error, stderr } = spawnSync(serverBinaries(account).initdb, [
    `--pgdata=${data}`, '--username=postgres', '--auth=password', `--pwfile=${password}`, '--encoding=UTF8', '--locale=C', '--no-sync', '--no-instructions'
  ], { ...account, cwd: '/', encoding: 'utf8', env: { ...process.env, LC_MESSAGES: 'C' } })
  if (status !== 0) throw new Error(`The PostgreSQL cluster could not be created in ${data}: ${error?.message ?? stderr.trim()}`)
}

/** Copies a cluster that no server runs on. The copy has the same password and the same system identifier. */
export function copyCluster (from: string, to: string): void {
  for (const part of ['password', 'data']) cpSync(join(from, part), join(to, part), { recursive: true })
  chmodSync(dataOf(to), 0o700)
  own([to, ...readdirSync(to, { recursive: true, encoding: 'utf8' }).map(name => join(to, name))], serverAccount())
}

function own (paths: readonly string[], account: ServerAccount | null): void {
  if (account !== null) for (const path of paths) chownSync(path, account.uid, account.gid)
}
