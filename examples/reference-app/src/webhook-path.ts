/** The path at which the app takes webhooks. */
export const webhookPath = '/webhooks/clerk'
