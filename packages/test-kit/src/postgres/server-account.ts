import { readFileSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

/** The operating-system account that PostgreSQL runs under. */
export interface ServerAccount { readonly uid: number, readonly gid: number }

/**
 * PostgreSQL refuses to run as root, so root starts it as `postgres`, or as `nobody` where there is no such account;
 * everybody else runs it as themselves (null). No account is ever created.
 */
export function serverAccount (): ServerAccount | null {
  if (process.getuid?.() !== 0) return null
  const accounts = readFileSync('/etc/passwd', 'utf8').split('\n').map(line => line.split(':'))
  for (const name of ['postgres', 'nobody']) {
    const account = accounts.find(fields => fields[0] === name)
    if (account !== undefined) return { uid: Number(account[2]), gid: Number(account[3]) }
  }
  throw new Error('PostgreSQL cannot run as root, and this machine has neither an account "postgres" nor "nobody". Run the command as an ordinary user.')
}

/** Whether the account can reach the path: every folder above it must be searchable. */
export function canReach (account: ServerAccount | null, path: string): boolean {
  if (account === null) return true
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const stats = statSync(folder, { throwIfNoEntry: false })
    if (stats !== undefined) {
      const searchable = stats.uid === account.uid ? 0o100 : stats.gid === account.gid ? 0o010 : 0o001
      if ((stats.mode & searchable) === 0) return false
    }
    if (folder === dirname(folder)) return true
  }
}
