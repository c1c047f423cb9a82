import { adminKey, perfRoutes } from '@orientor/perf-routes'
import { poolTuning } from '@orientor/pool-tuning'
import { sessionCache } from '@orientor/session-cache'
import type { Bell } from '@orientor/session-cache/core'
import { postgresBell, postgresBus } from '@orientor/session-cache/postgres'
import { redisBell } from '@orientor/session-cache/redis'
import { sessionIdentity } from '@orientor/session-identity'
import { smartSync } from '@orientor/smart-sync'
import fastify, { type FastifyInstance } from 'fastify'
import type { Config, ProviderConfig } from './config.js'
import { docsPage } from './docs-page.js'
import { readableReplies } from './readable-replies.js'
import { bareRoute, sessionRoutes } from './session-routes.js'
import { webhookPath } from './webhook-path.js'

/** A configuration that leaves nothing to be started. */
export interface Settings extends Config {
  readonly databaseUrl: string
  readonly provider: ProviderConfig
  /** The app is tried out by hand: its JSON replies are laid out for people. */
  readonly isDemo: boolean
}

/**
 * The app: every plugin in one scope, and outside of it `/bare` and `/docs`. It does not listen yet.
 *
 * @throws at ready, when an option breaks its rule
 */
export async function buildApp (settings: Settings): Promise<FastifyInstance> {
  const { provider, cache, bellUrl, adminKey: key } = settings
  const app = fastify({
    logger: { level: settings.logLevel ?? 'info' },
    // While the app closes, connections that are still open get their answers, and are told to close.
    return503OnClosing: false
  })

  if (settings.isDemo) readableReplies(app)
  await docsPage(app)

  app.register(async scope => {
    // Any order will do: the plugins find one another when the server becomes ready.
    const bell = bellUrl === null ? {} : { bell: bellAt(bellUrl) }
    scope.register(sessionCache, { ...given(cache), bus: postgresBus({ ...given(settings.bus), ...bell }) })
    const { issuer, apiUrl, secretKey, webhookSecrets: secrets, instanceId } = provider
    scope.register(smartSync, given({
      forceSyncAfterMs: settings.forceSyncAfterMs,
      clerk: secretKey === undefined ? undefined : given({ secretKey, apiUrl, issuer }),
      webhooks: secrets === undefined ? undefined : given({ secrets, issuer, instanceId, path: webhookPath })
    }))
    scope.register(sessionIdentity, given({
      issuer: provider.issuer, jwksUrl: provider.jwksUrl, audience: provider.audience, authorizedParties: provider.authorizedParties, algorithms: provider.algorithms
    }))
    scope.register(poolTuning, given({ connectionString: settings.databaseUrl, preset: settings.poolPreset, environment: settings.poolEnvironment }))
    if (key === null) scope.log.info('ADMIN_KEY is not set: there are no routes under /database')
    else scope.register(perfRoutes, { authorize: adminKey(key), issuer: provider.issuer })
    sessionRoutes(scope)
  })

  bareRoute(app)
  return app
}

/** The bell that the scheme of a URL stands for. */
function bellAt (url: string): Bell {
  return /^rediss?:/.test(url) ? redisBell({ url }) : postgresBell({ listenUrl: url })
}

type Given<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & { [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined> }

/** The options without those that are undefined: there the plugin's default counts. */
function given<T extends object> (options: T): Given<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Given<T>
}
