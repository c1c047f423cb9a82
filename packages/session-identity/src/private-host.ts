import { lookup as lookUp } from 'node:dns/promises'
import { BlockList, isIP } from 'node:net'

/** Finds the addresses of a host's name. */
export type Lookup = (name: string) => Promise<readonly string[]>

/** Looks a name up as a connection of this process does. */
export const systemLookup: Lookup = async name => (await lookUp(name, { all: true })).map(({ address }) => address)

type Networks = ReadonlyArray<readonly [network: string, prefix: number]>

/** IPv4 addresses that are no address of a public server (IANA's special-purpose registry, and multicast). */
const ipv4Networks: Networks = [
  ['0.0.0.0', 8], ['10.0.0.0', 8], ['100.64.0.0', 10], ['127.0.0.0', 8], ['169.254.0.0', 16], ['172.16.0.0', 12], ['192.0.0.0', 24],
  ['192.0.2.0', 24], ['192.88.99.0', 24], ['192.168.0.0', 16], ['198.18.0.0', 15], ['198.51.100.0', 24], ['203.0.113.0', 24],
  ['224.0.0.0', 3]
]

/** The same for IPv6, within what can be public: Teredo and other protocol assignments, documentation. */
const ipv6Networks: Networks = [['2001::', 23], ['2001:db8::', 32], ['3fff::', 20]]

/** Where public IPv6 addresses are: unicast, and what leads to an IPv4 address and is judged by it (RFC 4291, section 2.5.5.2; RFC 6052). */
const ipv6Space: Networks = [['2000::', 3], ['64:ff9b::', 96], ['::ffff:0:0', 96]]

const publicSpace = new BlockList()
publicSpace.addSubnet('0.0.0.0', 0, 'ipv4')
for (const [network, prefix] of ipv6Space) publicSpace.addSubnet(network, prefix, 'ipv6')

const privateNetworks = new BlockList()
for (const [network, prefix] of ipv4Networks) {
  const hex = network.split('.').map(part => Number(part).toString(16).padStart(2, '0')).join('')
  const embedded = `${hex.slice(0, 4)}:${hex.slice(4)}`
  privateNetworks.addSubnet(network, prefix, 'ipv4') // And IPv4-mapped, by Node.js.
  privateNetworks.addSubnet(`64:ff9b::${embedded}`, 96 + prefix, 'ipv6')
  privateNetworks.addSubnet(`2002:${embedded}::`, 16 + prefix, 'ipv6') // 6to4 (RFC 3056)
}
for (const [network, prefix] of ipv6Networks) privateNetworks.addSubnet(network, prefix, 'ipv6')

/** Names that no public server has (RFC 6761, RFC 6762, RFC 8375, ICANN's reservation of `internal`). */
const privateName = /^(?:.+\.)?(?:localhost|local|internal|home\.arpa)$/

/**
 * Whether a host is in a private place: an address that is loopback, link-local, unique-local, private or otherwise not public; a
 * name that is reserved for such places or has no dot; or, where names are looked up, a name that has any such address. A name
 * that cannot be looked up counts as public: the fetch fails, or a proxy resolves it.
 *
 * It keeps a mistaken document from sending requests into the network. It does not stop a name whose addresses change between
 * the look-up and the fetch.
 *
 * @param hostname - as `URL` spells it
 * @param lookup - null: names are judged by themselves only
 * @param addresses - whether one private address of a name makes it private (`some`), or only all of them do (`every`)
 */
export async function isPrivateHost (hostname: string, lookup: Lookup | null, addresses: 'some' | 'every'): Promise<boolean> {
  const host = hostname.replace(/^\[|\]$|\.$/g, '').toLowerCase()
  if (isIP(host) !== 0) return isPrivateAddress(host)
  if (privateName.test(host) || !host.includes('.')) return true
  if (lookup === null) return false
  try {
    const found = await lookup(host)
    return found.length > 0 && found[addresses](isPrivateAddress)
  } catch {
    return false
  }
}

function isPrivateAddress (address: string): boolean {
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
  return !publicSpace.check(address, family) || privateNetworks.check(address, family)
}
