import { createHash } from 'node:crypto'
import { createIdentity, sessionKey, sessionKeyHash, type ActiveRecord, type Identity, type LoadRequest, type SessionKeyHash } from '@orientor/session-contract/core'

export const issuer = 'https://clerk.example.com'

/** Subjects as Clerk names users: 32 characters. The number has none of the padding's capitals. */
export function subjectOf (user: number): string {
  return `user_${user.toString(36).padStart(27, 'XQWZBKJVXQWZBKJVXQWZBKJVXQW')}`
}

export function identityOf (user: number): Identity {
  return createIdentity({ issuer, subject: subjectOf(user), sessionId: `sess_${user}`, issuedAtMs: user * 1000 })
}

/** The hashes by which users are kept: SHA-256 in hexadecimal. */
export function hashesOf (users: number, from: number = 0): SessionKeyHash[] {
  return Array.from({ length: users }, (_, index) => sessionKeyHash(sessionKey(issuer, subjectOf(from + index))))
}

/** A record as a driver reads it, every text a string of its own: 15 fields, six of them in the profile. */
export function recordOf ({ subject }: Pick<LoadRequest, 'subject'>): ActiveRecord {
  const tail = subject.slice(-7)
  return {
    kind: 'active',
    user: {
      userId: text(`0b6a1c1e-93a4-4c1f-8000-00000${tail}`),
      issuer: text(issuer),
      subject: text(subject),
      email: text(`somebody.${tail}@example.com`),
      firstName: text(`Maximilian ${tail}`),
      lastName: text(`Featherstone ${tail}`),
      isActive: true,
      onboardingCompleted: true,
      providerUpdatedAt: 1_760_000_000_000 + tail.charCodeAt(6),
      profile: {
        username: text(`somebody-${tail}`),
        phone: text(`+3212${tail}`),
        imageUrl: text(`https://img.clerk.example/eyJ0eXBlIjoiZGVmYXVsdCIsImlpZCI6Imluc18ycSJ9${tail}`),
        locale: text(`nl-BE ${tail}`),
        timezone: text(`Europe/Brussels ${tail}`),
        plan: text(`professional ${tail}`)
      }
    },
    revision: 1,
    sync: 'skipped',
    lastSyncedAtMs: 1_760_000_000_000 + tail.charCodeAt(5),
    tokensValidFromMs: 0,
    revokedSessions: []
  }
}

/** A session token as Clerk mints them: 15 claims, about 900 characters, an RS256 signature (of random bytes). */
export function tokenOf (user: number, nowMs: number): string {
  const random = createHash('shake256', { outputLength: 256 }).update(subjectOf(user)).digest()
  const hex = random.toString('hex')
  const issuedAt = Math.floor(nowMs / 1000) - 5
  const claims = {
    azp: 'https://example.com',
    exp: issuedAt + 3600,
    fva: [user % 60, -1],
    iat: issuedAt,
    iss: issuer,
    jti: hex.slice(0, 12),
    nbf: issuedAt - 10,
    org_id: `org_${hex.slice(20, 30)}`,
    org_role: 'org:admin',
    org_slug: hex.slice(44, 50),
    sid: `sess_${hex.slice(50, 66)}`,
    sts: 'active',
    sub: subjectOf(user),
    v: 2,
    updated_at: nowMs - user
  }
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  return text(`${part({ alg: 'RS256', cat: 'cl_B7d4PD111AAA', kid: `ins_${'2q'.repeat(13)}`, typ: 'JWT' })}.${part(claims)}.${random.toString('base64url')}`)
}

/** A copy in one piece, as a parser makes it: V8 builds a text of several as a tree. */
function text (value: string): string {
  return Buffer.from(value, 'latin1').toString('latin1')
}
