import type { Service } from './service.js'

/** The text that a newcomer needs: where the app is, and what to try. Empty for an app that is configured. */
export function welcome (service: Omit<Service, 'close'>): string {
  const { url, demo, adminKey, database, hasWebhooks, isDemoUserGone } = service
  if (demo === null) return ''
  return `
The app listens at ${url}. Ctrl-C stops everything.

A token that is good for an hour, and the key to the routes for operators:

  TOKEN=${demo.token}
  ADMIN_KEY=${adminKey}

${isDemoUserGone ? gone(database?.folder) : ''}Try:

  curl ${url}/me -H "authorization: Bearer $TOKEN"
  curl ${url}/database/performance -H "x-admin-key: $ADMIN_KEY"

${hasWebhooks ? changing(demo.userUrl) : ''}${database === null ? '' : stored(database.url)}Every route, to read and to try in a browser: ${url}/docs

`
}

/** The lines by which a newcomer sees a change arrive. */
function changing (userUrl: string): string {
  return `Change the user at the simulated provider, which tells the app by a webhook;
then ask /me once more, and see the new name:

  ADA=${userUrl}
  JSON=content-type:application/json
  curl -so /dev/null -X PATCH $ADA -H $JSON -d '{"firstName":"Grace"}'

`
}

/** The place of the row. */
function stored (databaseUrl: string): string {
  return `The row is in the table "users" of the database, for any client of PostgreSQL:

  ${databaseUrl}

`
}

/** The reason why the token is refused, and the remedy. */
function gone (folder: string | undefined): string {
  const remedy = folder === undefined
    ? 'remove the user from the tables "users" and "user_tombstones"'
    : `stop the app, remove ${folder}, and start it again`
  return `The demo user was deleted in an earlier run, and stays deleted: /me answers 401.
To begin anew, ${remedy}.

`
}
