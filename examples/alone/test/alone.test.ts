import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { build as contract } from '../src/session-contract.js'

const root = new URL('../../../', import.meta.url)

for (const file of readdirSync(new URL('examples/alone/src/', root))) {
  const name = file.replace(/\.ts$/, '')
  t.test(`the README of ${name} shows its example as it is`, async t => {
    const readme = readFileSync(new URL(`packages/${name}/README.md`, root), 'utf8')
    const shown = /```ts\n([\s\S]*?)```/.exec(readme)?.[1]
    t.equal(shown, readFileSync(new URL(`examples/alone/src/${file}`, root), 'utf8'))
  })
}

t.test('session-contract alone joins the app\'s own authentication with its own users', async t => {
  const app = await contract()
  t.teardown(() => app.close())
  t.match((await app.inject({ url: '/me', headers: { 'x-user': 'ada' } })).json(), { userId: '1', firstName: 'Ada' })
  t.equal((await app.inject({ url: '/me', headers: { 'x-user': 'eve' } })).statusCode, 401)
  t.equal((await app.inject('/me')).statusCode, 401)
})
