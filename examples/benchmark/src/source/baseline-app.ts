import postgres from '@fastify/postgres'
import fastify from 'fastify'
import { createRemoteJWKSet, jwtVerify } from 'jose'

// The usual way: every request verifies its token, finds its user, notes the visit and reads the profile.
const { DATABASE_URL: connectionString = '', ISSUER: issuer = '', JWKS_URL: jwksUrl = '', PORT: port = '' } = process.env
const keys = createRemoteJWKSet(new URL(jwksUrl))
const app = fastify()
await app.register(postgres, { connectionString })
await app.pg.query(`CREATE TABLE IF NOT EXISTS users (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  clerk_user_id text NOT NULL UNIQUE,
  email text,
  first_name text,
  last_name text,
  last_seen timestamptz
)`)
await app.pg.query('CREATE TABLE IF NOT EXISTS profiles (user_id bigint PRIMARY KEY REFERENCES users, onboarding_completed boolean NOT NULL, data jsonb)')

interface User { readonly id: string, readonly email: string | null, readonly first_name: string | null, readonly last_name: string | null }

const textOrNull = { type: ['string', 'null'] }
app.get('/me', {
  schema: {
    response: {
      200: {
        type: 'object',
        properties: {
          user: { type: 'object', properties: { id: { type: 'string' }, email: textOrNull, first_name: textOrNull, last_name: textOrNull } },
          profile: { type: 'object', properties: { onboarding_completed: { type: 'boolean' }, data: { type: ['object', 'null'], additionalProperties: true } } }
        }
      }
    }
  }
}, async (request, reply) => {
  const { payload } = await jwtVerify(request.headers.authorization?.slice('Bearer '.length) ?? '', keys, { issuer })
  let { rows: [user] } = await app.pg.query<User>('SELECT id, email, first_name, last_name FROM users WHERE clerk_user_id = $1', [payload.sub])
  if (user === undefined) {
    const inserted = await app.pg.query<User>('INSERT INTO users (clerk_user_id) VALUES ($1) ON CONFLICT (clerk_user_id) DO UPDATE SET clerk_user_id = EXCLUDED.clerk_user_id RETURNING id, email, first_name, last_name', [payload.sub])
    user = inserted.rows[0]!
    await app.pg.query('INSERT INTO profiles VALUES ($1, false, NULL) ON CONFLICT DO NOTHING', [user.id])
  }
  await app.pg.query('UPDATE users SET last_seen = now() WHERE id = $1', [user.id])
  const { rows: [profile] } = await app.pg.query('SELECT onboarding_completed, data FROM profiles WHERE user_id = $1', [user.id])
  reply.send({ user, profile })
  return reply
})
app.get('/ready', async () => 'ready')

process.once('SIGTERM', () => { app.close().finally(() => { process.exit() }) })
process.once('disconnect', () => { process.exit(1) })
await app.listen({ host: '127.0.0.1', port: Number(port) })
