import swagger, { type FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifySchema } from 'fastify'
import { webhookSchema } from './schemas.js'
import { webhookPath } from './webhook-path.js'

const description = 'Every Orientor plugin in one service. To try a route here, press "Authorize" first: `session` takes a token, `adminKey` what the header x-admin-key must be.'

/**
 * The description of a route. perf-routes cannot know what the app calls its guard, and the body of a webhook is nothing
 * but bytes to its route.
 */
function described (schema: FastifySchema, url: string): FastifySchema {
  if (url === webhookPath) return webhookSchema
  return url.startsWith('/database/') ? { ...schema, security: [{ adminKey: [] }] } : schema
}

/**
 * Describes the routes that are registered afterwards: `/docs` is a page to read and to try them, which loads nothing from elsewhere, and
 * `/docs/json` the OpenAPI document.
 */
export async function docsPage (app: FastifyInstance): Promise<void> {
  const options: FastifyDynamicSwaggerOptions = {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Orientor reference app', version: '0.0.0', description },
      components: {
        securitySchemes: {
          session: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
          adminKey: { type: 'apiKey', in: 'header', name: 'x-admin-key' },
          webhook: { type: 'apiKey', in: 'header', name: 'svix-signature' }
        }
      }
    },
    transform: ({ schema, url }) => ({ schema: described(schema, url), url })
  }
  await app.register(swagger, options)
  await app.register(swaggerUi, { routePrefix: '/docs' })
}
