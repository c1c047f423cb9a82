import fastify, { type FastifyPluginAsync } from 'fastify'
import t from 'tap'
import { perfRoutes } from '@orientor/perf-routes'
import { poolTuning } from '@orientor/pool-tuning'
import { sessionCache } from '@orientor/session-cache'
import { sessionIdentity } from '@orientor/session-identity'
import { smartSync } from '@orientor/smart-sync'
import { startDemoProvider } from '../src/demo-provider.js'
import { welcome } from '../src/welcome.js'

t.test('An option that is misspelt or of the wrong type stops the registration, with the option, the rule and what was received', async t => {
  const database = 'postgres://127.0.0.1:1/none'
  const cases: ReadonlyArray<readonly [name: string, plugin: unknown, options: object, message: RegExp]> = [
    ['session-identity', sessionIdentity, { issuer: 'https://a.example', audiences: 'x' }, /option "audiences" is not known\. The options are: .*audience/],
    ['session-identity', sessionIdentity, { issuer: 7 }, /option "issuer" must be .*; received 7 \(number\)/],
    ['session-cache', sessionCache, { expireAfter: 5 }, /option "expireAfter" is not known\. The options are: .*expireAfterMs/],
    ['session-cache', sessionCache, { expireAfterMs: '15m' }, /option "expireAfterMs" must be .*; received "15m"/],
    ['smart-sync', smartSync, { forceSyncAfter: 1 }, /option "forceSyncAfter" is not known\. The options are: .*forceSyncAfterMs/],
    ['smart-sync', smartSync, { migrate: 'yes' }, /option "migrate" must be true or false; received "yes"/],
    ['pool-tuning', poolTuning, { connectionString: database, presets: 'base' }, /"presets" is not known\. The options are: .*preset/],
    ['pool-tuning', poolTuning, { connectionString: database, preset: 'prod' }, /option "preset" must be .*; received "prod"/],
    ['perf-routes', perfRoutes, { authorise: false }, /"authorise" is not known\. The options are: .*authorize/],
    ['perf-routes', perfRoutes, { authorize: 'secret' }, /option "authorize" must be .*; received/]
  ]
  for (const [name, plugin, options, message] of cases) {
    const app = fastify()
    app.register(plugin as FastifyPluginAsync<object>, options)
    await t.rejects(async () => { await app.ready() }, { message: new RegExp(`${name}.*${message.source}`) }, `${name} ${JSON.stringify(options)}`)
    await app.close()
  }
})

t.test('A change at the simulator is only shown where its webhooks reach the app', async t => {
  const demo = await startDemoProvider()
  t.teardown(() => demo.stop())
  t.equal(await demo.sendWebhooksTo('http://192.0.2.1:3000/webhooks/clerk'), false)
  t.equal(await demo.sendWebhooksTo('http://127.0.0.1:1/webhooks/clerk'), true, 'an app that does not answer yet is told later')
  const database = { url: 'postgres://127.0.0.1:5432/orientor', folder: '/data' }
  const told = { url: 'http://192.0.2.1:3000', demo, adminKey: 'key', database, isDemoUserGone: false }
  t.notMatch(welcome({ ...told, hasWebhooks: false }), /webhook|PATCH/)
  t.match(welcome({ ...told, hasWebhooks: true }), `ADA=${demo.userUrl}\n  JSON=content-type:application/json\n  curl -so /dev/null -X PATCH $ADA `)
  t.match(welcome({ ...told, hasWebhooks: true }), database.url)
  t.notMatch(welcome({ ...told, hasWebhooks: true }), /deleted/)
  t.match(welcome({ ...told, hasWebhooks: true, isDemoUserGone: true }), /stays deleted: \/me answers 401\.\nTo begin anew, stop the app, remove \/data,/)
  t.match(welcome({ ...told, database: null, hasWebhooks: true, isDemoUserGone: true }), /remove the user from the tables/)
  t.equal(welcome({ ...told, demo: null, hasWebhooks: false }), '', 'a configured app says nothing')
})
