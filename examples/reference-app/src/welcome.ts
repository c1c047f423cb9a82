import type { Service } from './service.js'

/** What a newcomer needs: where the app is, and what to try. Empty for an app that is configured: its log says enough. */
export function welcome ({ url, demo, adminKey }: Pick<Service, 'url' | 'demo' | 'adminKey'>): string {
  if (demo === null) return ''
  return `
The app listens at ${url}. Ctrl-C stops everything.

A token that is good for an hour, and the key to the routes for operators:

  TOKEN=${demo.token}
  ADMIN_KEY=${adminKey}

Try:

  curl ${url}/me -H "authorization: Bearer $TOKEN"
  curl ${url}/database/performance -H "x-admin-key: $ADMIN_KEY"

Every route, to read and to try in a browser: ${url}/docs

`
}
