import { generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'

/** A certificate and its private key, both PEM. */
export interface Certificate {
  readonly certificate: string
  readonly key: string
}

/** What a certificate says. */
export interface CertificateOptions {
  readonly commonName: string
  /** Names and IPv4 addresses of the server. Default is none. */
  readonly hosts?: readonly string[]
  /** Who signs it. Default: itself. */
  readonly authority?: Authority
  /** When it runs out. Default: in a day. */
  readonly until?: Date
}

/** A certificate that signs others. */
export interface Authority extends Certificate {
  readonly commonName: string
  readonly privateKey: KeyObject
}

/** Makes a certificate with a key on the curve P-256, by itself or by an authority; X.509 version 3 (RFC 5280). */
export function makeCertificate ({ commonName, hosts = [], authority, until = new Date(Date.now() + 86_400_000) }: CertificateOptions): Authority {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const algorithm = sequence(objectId('2a8648ce3d040302'))
  const extensions = [sequence(objectId('551d13'), octets(authority === undefined ? sequence(Buffer.from([0x01, 0x01, 0xff])) : sequence()))]
  if (hosts.length > 0) extensions.push(sequence(objectId('551d11'), octets(sequence(...hosts.map(hostName)))))
  const content = sequence(
    tagged(0xa0, tagged(0x02, Buffer.from([2]))),
    tagged(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    algorithm,
    distinguishedName(authority?.commonName ?? commonName),
    sequence(time(new Date(Date.now() - 3 * 86_400_000)), time(until)),
    distinguishedName(commonName),
    publicKey.export({ type: 'spki', format: 'der' }),
    tagged(0xa3, sequence(...extensions))
  )
  const signature = sign('sha256', content, authority?.privateKey ?? privateKey)
  const certificate = sequence(content, algorithm, tagged(0x03, Buffer.concat([Buffer.from([0]), signature])))
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${certificate.toString('base64').replaceAll(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    commonName,
    privateKey
  }
}

/** DER: a tag, the length, the content. */
function tagged (tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  const { length } = content
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...size]), content])
}

function sequence (...parts: readonly Buffer[]): Buffer {
  return tagged(0x30, ...parts)
}

function octets (content: Buffer): Buffer {
  return tagged(0x04, content)
}

function objectId (hex: string): Buffer {
  return tagged(0x06, Buffer.from(hex, 'hex'))
}

function distinguishedName (commonName: string): Buffer {
  return sequence(tagged(0x31, sequence(objectId('550403'), tagged(0x0c, Buffer.from(commonName)))))
}

function hostName (host: string): Buffer {
  const isAddress = /^\d+(?:\.\d+){3}$/.test(host)
  return isAddress ? tagged(0x87, Buffer.from(host.split('.').map(Number))) : tagged(0x82, Buffer.from(host))
}

/** UTCTime, to the second. */
function time (date: Date): Buffer {
  return tagged(0x17, Buffer.from(`${date.toISOString().slice(2, 19).replaceAll(/[-:T]/g, '')}Z`))
}
