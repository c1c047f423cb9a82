import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { checkoutRoot, dataFolder } from '../src/embedded-database.js'

t.test('data is kept in the checkout where the server can reach it, else in a folder of this user in /tmp', async t => {
  const parent = mkdtempSync('/tmp/orientor-checkout-')
  const root = join(parent, 'checkout')
  mkdirSync(root)
  t.teardown(() => { chmodSync(root, 0o755); rmSync(parent, { recursive: true, force: true }) })
  chmodSync(parent, 0o755)
  t.equal(dataFolder(root), join(root, '.orientor', 'postgres'))

  // Root's server has another account, which a home of mode 0700 keeps out; everybody else's needs a checkout that can be written.
  if (process.getuid?.() === 0) chmodSync(parent, 0o700)
  else chmodSync(root, 0o555)
  const elsewhere = dataFolder(root)
  t.teardown(() => { rmSync(elsewhere, { recursive: true, force: true }) })
  t.match(elsewhere, new RegExp(`^/tmp/orientor-${process.getuid?.()}/[0-9a-f]{12}$`))
  t.ok(existsSync(elsewhere))
  t.equal(dataFolder(root), elsewhere, 'the same one the next time')
})

t.test('the root of the checkout is the nearest folder that holds the workspace', async t => {
  t.ok(existsSync(join(checkoutRoot(import.meta.dirname), 'pnpm-workspace.yaml')))
  t.throws(() => checkoutRoot('/'), { message: /Set DATABASE_URL/ })
})
