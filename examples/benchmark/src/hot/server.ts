import fastify from 'fastify'
import { cpuQuestion } from '../measure/cpu-time.js'
import type { Contender, World } from './contender.js'
import { emailOf, replySchema, type Reply } from './reply.js'

// One contender in a process of its own: /me in a scope of its own, and outside of it /bare, with the same reply and no plugin.
const { CONTENDER = '', WORLD = '{}', PORT = '' } = process.env
const { default: contender } = await import(`./contenders/${CONTENDER}.js`) as { readonly default: Contender }

const app = fastify()
await app.register(async scope => { await contender(scope, JSON.parse(WORLD) as World) })
const constant: Reply = Object.freeze({ id: '1', email: emailOf(1) })
app.get('/bare', replySchema, (_request, reply) => { reply.send(constant) })

process.once('SIGTERM', () => { app.close().finally(() => { process.exit() }) })
process.once('disconnect', () => { process.exit(1) })
process.on('message', message => {
  const { user, system } = process.cpuUsage()
  if (message === cpuQuestion) process.send!(user + system)
})
await app.listen({ host: '127.0.0.1', port: Number(PORT) })
