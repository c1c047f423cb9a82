/**
 * Whether an issuer is Clerk's by its address, as Clerk's documentation on custom domains and proxying has it: `<name>.clerk.accounts.dev` in
 * development, `clerk.<domain>` in production, a path `/__clerk` behind a proxy of the application's own.
 */
export function isClerkIssuer (issuer: string): boolean {
  if (!URL.canParse(issuer)) return false
  const { hostname, pathname } = new URL(issuer)
  return hostname.startsWith('clerk.') || hostname.endsWith('.accounts.dev') || /\/__clerk\/?$/.test(pathname)
}
