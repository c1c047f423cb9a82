import type { QuotaLimits } from './request-quota.js'

/**
 * The limits where none are given: four fifths of what Clerk takes from an instance, 1000 requests per 10 seconds, and
 * 100 for a development key (`sk_test_…`). The rest is for what else uses the key.
 */
export function defaultQuota (secretKey: string): QuotaLimits {
  return { maxRequests: secretKey.startsWith('sk_test_') ? 80 : 800, windowMs: 10_000 }
}
