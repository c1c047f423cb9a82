import { isIPv4 } from 'node:net'

/** Whether a host name or address leads to this machine only: `localhost`, 127.0.0.0/8 or ::1. */
export function isLoopback (host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1')
  return bare === 'localhost' || bare === '::1' || (isIPv4(bare) && bare.startsWith('127.'))
}
