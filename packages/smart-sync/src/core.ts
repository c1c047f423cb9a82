export { needsSync, type SyncDecision, type SyncMark } from './change-detection.js'
export { defaultClaimNames, type ClaimNames } from './claims-profile.js'
export type { ClerkQuota } from './clerk/clerk-api.js'
export { ClerkProvider, type ClerkProviderOptions } from './clerk/clerk-provider.js'
export { ClerkWebhook, type ClerkWebhookOptions } from './clerk/clerk-webhook.js'
export { errors, type SmartSyncErrorCode, type SmartSyncErrors } from './errors.js'
export type { IdentityProvider, LookUpPriority, ProviderAnswer } from './identity-provider.js'
export { migrate, type MigrateOptions } from './migrate.js'
export type { UserColumns, UsersTableOptions } from './users-table.js'
export {
  isNews, isSessionId, maxVersionLeadMs, observe, sessionEnded, userDeleted, type Observation,
  type ObservedProfile, type ProfileObserved, type SessionEnded, type UserDeleted, type UserState
} from './observation.js'
export type { ClerkOptions, SmartSyncOptions } from './options.js'
export type { ClientLike, PoolLike, Queryable, StatementConfig } from '@orientor/session-contract/core'
export type { ApplyOptions, UnreadableLetter } from './observation-applier.js'
export { PostgresUserStore, type PostgresUserStoreOptions } from './postgres-user-store.js'
export { SmartDatabaseSync, type SmartDatabaseSyncOptions } from './smart-database-sync.js'
export type { SyncOutcome } from './sync-outcome.js'
export { SyncStats, type ErrorReason, type SkipReason, type SyncStatsSnapshot } from './sync-stats.js'
export { defaultTableNames, type TableNames } from './table-names.js'
export type {
  DeadLetter, DeletionPolicy, FoundUsers, Lane, Refusal, StoredUser, UserKey, UserStore, WriteMode, WriteResult,
  WrittenUser
} from './user-store.js'
export type { ParseProfile } from './user-record.js'
export type { EndedSessions, UserUpdate } from './user-update.js'
export type { WebhookReader, WebhookReading } from './webhook-reader.js'
export { WebhookReceiver, type WebhookReceiverOptions, type WebhookResult } from './webhook-receiver.js'
export { isWebhookSecret, WebhookSignature } from './webhook-signature.js'
export { WebhookStats, type WebhookOutcome } from './webhook-stats.js'
export type { WebhooksOptions } from './webhooks-options.js'
