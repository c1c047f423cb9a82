import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startRedis, startTcpProxy, testDatabase, until, withoutRedis, type TcpProxy } from '../src/index.js'

interface End { readonly socket: Socket, heard: string, isClosed: boolean }
const end = (socket: Socket): End => {
  const it: End = { socket, heard: '', isClosed: false }
  socket.on('data', chunk => { it.heard += String(chunk) }).on('error', () => {}).once('close', () => { it.isClosed = true })
  return it
}
const turn = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })

/** A server that only listens, a proxy before it, and pairs of what the client and the server have in hand. */
async function setup (t: Test): Promise<{ proxy: TcpProxy, pair: () => Promise<{ client: End, server: End }>, dial: () => End }> {
  const accepted: Socket[] = []
  const listener = createServer(socket => { accepted.push(socket) })
  await new Promise<void>(resolve => { listener.listen(0, '127.0.0.1', () => { resolve() }) })
  const proxy = await startTcpProxy((listener.address() as AddressInfo).port)
  const clients: Socket[] = []
  t.teardown(async () => {
    await proxy.stop()
    for (const socket of [...accepted, ...clients]) socket.destroy()
    await new Promise(resolve => { listener.close(resolve) })
  })
  const dial = (): End => {
    const socket = connect(proxy.port, '127.0.0.1')
    clients.push(socket)
    return end(socket)
  }
  const pair = async (): Promise<{ client: End, server: End }> => {
    const before = accepted.length
    const client = dial()
    await until('the server accepts', () => accepted.length > before)
    return { client, server: end(accepted[before]!) }
  }
  return { proxy, pair, dial }
}

t.test('a proxy passes bytes and ends of both sides', async t => {
  const { proxy, pair } = await setup(t)
  const { client, server } = await pair()
  client.socket.write('question')
  await until('the question arrives', () => server.heard === 'question')
  server.socket.end('answer')
  await until('answer and end arrive', () => client.heard === 'answer' && client.isClosed)
  await until('nothing is open', () => proxy.counts.open === 0)
})

t.test('bytes are delayed, and stay in order when the delay ends', async t => {
  const { proxy, pair } = await setup(t)
  const { client, server } = await pair()
  proxy.delayMs = 80
  const sinceMs = performance.now()
  client.socket.write('first ')
  await turn(20)
  t.equal(server.heard, '')
  proxy.delayMs = 0
  client.socket.end('second')
  await until('both arrive', () => server.heard === 'first second' && server.isClosed)
  t.ok(performance.now() - sinceMs >= 75)
})

t.test('a stall holds bytes and ends, of open and of new connections, and delivers them when it is over', async t => {
  const { proxy, pair } = await setup(t)
  const first = await pair()
  proxy.mode = 'stall'
  const second = await pair()
  first.client.socket.end('one')
  second.server.socket.write('two')
  await turn(30)
  t.equal(first.server.heard + second.client.heard, '')
  proxy.mode = 'pass'
  await until('all of it arrives', () => first.server.heard === 'one' && first.server.isClosed && second.client.heard === 'two')
  t.equal(proxy.counts.swallowedBytes, 0)
})

t.test('a black hole swallows both directions or one, of open and of new connections, and hides that a side ended', async t => {
  for (const [mode, toServer, toClient] of [['black hole', '', ''], ['black hole to server', '', 'pong'], ['black hole to client', 'ping', '']] as const) {
    const { proxy, pair } = await setup(t)
    const open = await pair()
    proxy.mode = mode
    for (const { client, server } of [open, await pair()]) {
      client.socket.write('ping')
      server.socket.write('pong')
      await until('what passes arrives', () => server.heard === toServer && client.heard === toClient)
      await turn(20)
      t.same([server.heard, client.heard], [toServer, toClient], mode)
      // The side whose words vanish goes: the other never learns it.
      const [leaver, stayer] = toServer === '' ? [client, server] : [server, client]
      leaver.socket.destroy()
      await turn(30)
      t.equal(stayer.isClosed, false, mode)
    }
    t.ok(proxy.counts.swallowedBytes >= 8)
    proxy.mode = 'pass'
    const later = await pair()
    later.client.socket.write('again')
    await until('new connections pass', () => later.server.heard === 'again')
  }
})

t.test('connections that lost bytes stay silent, idle ones go on', async t => {
  const { proxy, pair } = await setup(t)
  const [lossy, idle] = [await pair(), await pair()]
  proxy.mode = 'black hole'
  lossy.client.socket.write('lost')
  await until('it is lost', () => proxy.counts.swallowedBytes === 4)
  proxy.mode = 'pass'
  lossy.client.socket.write('later')
  idle.client.socket.write('later')
  await until('the idle one passes', () => idle.server.heard === 'later')
  t.equal(lossy.server.heard, '')
})

t.test('open connections go silent for good, in both directions or one, and later ones pass', async t => {
  for (const [direction, toServer, toClient] of [['both', '', ''], ['to server', '', 'pong'], ['to client', 'ping', '']] as const) {
    const { proxy, pair } = await setup(t)
    const { client, server } = await pair()
    proxy.silence(direction)
    client.socket.write('ping')
    server.socket.write('pong')
    const later = await pair()
    later.client.socket.write('ping')
    later.server.socket.write('pong')
    await until('later ones pass', () => later.server.heard === 'ping' && later.client.heard === 'pong')
    t.same([server.heard, client.heard], [toServer, toClient], direction)
    t.same([server.isClosed, client.isClosed], [false, false])
  }
})

t.test('new connections are refused or reset while open ones go on, and open ones are reset', async t => {
  const { proxy, pair, dial } = await setup(t)
  const { client, server } = await pair()
  for (const [mode, code] of [['refuse', 'ECONNREFUSED'], ['reset', 'ECONNRESET']] as const) {
    proxy.mode = mode
    proxy.mode = mode
    const failure = await new Promise(resolve => { dial().socket.once('error', resolve) })
    t.match(failure, { code }, mode)
    client.socket.write('.')
    proxy.mode = 'pass'
  }
  await until('the open one went on', () => server.heard === '..')
  await until('new ones pass', async () => {
    const { socket } = dial()
    return await new Promise(resolve => { socket.once('connect', () => { resolve(true) }).once('error', () => { resolve(false) }) })
  })
  const resets = [client, server].map(({ socket }) => new Promise(resolve => { socket.once('error', resolve) }))
  proxy.reset()
  for (const failure of await Promise.all(resets)) t.match(failure, { code: 'ECONNRESET' })
  t.match(proxy.counts, { refused: 1, open: 0 })
  t.ok(proxy.counts.cut >= 1)
})

t.test('a connection of which one side is just ending is reset, and leaves no socket behind', async t => {
  const sockets = (): number => process.getActiveResourcesInfo().filter(kind => kind === 'TCPSocketWrap').length
  const { proxy, pair } = await setup(t)
  for (const first of ['client', 'server'] as const) {
    await until('no socket is open', () => sockets() === 0)
    const { client, server } = await pair()
    proxy.mode = 'stall'
    for (const { socket } of [client, server]) socket.allowHalfOpen = true
    const ending = first === 'client' ? client : server
    ending.socket.end()
    await turn(20) // the proxy has heard it
    proxy.mode = 'pass'
    await new Promise<void>(resolve => { process.nextTick(resolve) }) // it is passing it on
    proxy.reset()
    for (const { socket } of [client, server]) socket.destroy()
    await until(`all are closed after the ${first} has ended`, () => sockets() === 0)
  }
})

t.test('new connections are led somewhere else, open ones stay', async t => {
  const [first, second] = [await setup(t), await setup(t)]
  const old = await first.pair()
  first.proxy.retarget(second.proxy.port)
  const before = second.proxy.counts.accepted
  first.dial()
  await until('the other target is reached', () => second.proxy.counts.accepted > before)
  old.client.socket.write('stays')
  await until('the old one stays', () => old.server.heard === 'stays')
})

t.test('Postgres is spoken to through a proxy, and fails as its fault says', async t => {
  const { url } = await testDatabase(t)
  const proxy = await startTcpProxy(Number(new URL(url).port))
  t.teardown(() => proxy.stop())
  const dial = async (): Promise<pg.Client> => {
    const client = new pg.Client({ connectionString: proxy.through(url) })
    client.on('error', () => {})
    await client.connect()
    return client
  }
  const client = await dial()
  t.same((await client.query('SELECT 1 AS one')).rows, [{ one: 1 }])
  proxy.silence()
  await t.rejects(client.query({ text: 'SELECT 1', query_timeout: 200 } as pg.QueryConfig), { message: 'Query read timeout' })
  const second = await dial()
  const cut = t.rejects(second.query('SELECT pg_sleep(1)'))
  proxy.reset()
  await cut
  proxy.mode = 'refuse'
  await t.rejects(dial(), { code: 'ECONNREFUSED' })
})

t.test('Redis', async t => {
  t.test('answers as it is set, and ends with the test', { skip: withoutRedis }, async t => {
    let port = 0
    await t.test('while it lasts', async t => {
      port = await startRedis(t, { requirepass: 'secret' })
      t.match(await said(port, 'PING\r\n'), /^-NOAUTH/)
      t.match(await said(port, 'AUTH secret\r\n'), /^\+OK/)
    })
    await until('its port is closed', async () => await said(port, 'PING\r\n').then(() => false, () => true))
    await t.rejects(startRedis(t, { 'no-such-setting': '1' }), { message: /could not be started/, cause: { message: /look at the settings/ } })
  })

  t.test('says what to install where it is missing', async t => {
    const { PATH } = process.env
    process.env['PATH'] = '/nowhere'
    t.teardown(() => { process.env['PATH'] = PATH })
    await t.rejects(startRedis(t), { message: 'Redis could not be started. On Debian: apt-get install redis-server', cause: { code: 'ENOENT' } })
  })
})

/** The first thing that a server on the port says to a text. */
async function said (port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  try {
    socket.write(text)
    return String((await once(socket, 'data'))[0])
  } finally {
    socket.destroy()
  }
}
