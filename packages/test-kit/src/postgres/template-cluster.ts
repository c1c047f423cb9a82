import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { copyCluster, createCluster } from './cluster-folder.js'
import { serverAccount } from './server-account.js'
import { serverBinaries } from './server-binaries.js'

const ofCheckout = fileURLToPath(new URL('../../../../node_modules/.cache/', import.meta.url))

/**
 * Fills a folder with a fresh cluster: a copy of the one that was made for this checkout when a test first asked, since making one takes a second of
 * CPU and copying one a tenth of it. In a checkout that cannot be written, each is made.
 */
export function fillWithCluster (folder: string, cache: string = ofCheckout): void {
  const { version } = serverBinaries(serverAccount())
  const kept = join(cache, `postgres-${version}-${process.arch}-${process.getuid?.() ?? 0}`)
  if (existsSync(kept)) {
    copyCluster(kept, folder)
    return
  }
  createCluster(folder)
  keep(folder, kept)
}

/** Another process may keep its own at the same time, which is as good. */
function keep (folder: string, kept: string): void {
  let staging: string | null = null
  try {
    mkdirSync(dirname(kept), { recursive: true })
    staging = mkdtempSync(`${kept}-`)
    copyCluster(folder, staging)
    renameSync(staging, kept)
  } catch {
    if (staging !== null) rmSync(staging, { recursive: true, force: true })
  }
}
