export { systemClock, type Clock, type Timer } from './clock.js'
export { startDeadline, type Deadline, type OwnedDeadline } from './deadline.js'
export { deepFreeze } from './deep-freeze.js'
export { exactJson } from './exact-json.js'
export { problemDocument, type ProblemDocument } from './problem-document.js'
export { errors, type CodedError, type ContractErrorCode, type ContractErrors } from './errors.js'
export { issuerFlaw, maxSubjectBytes, sessionKey, sessionKeyHash, splitSessionKey, subjectFlaw, type SessionKey, type SessionKeyHash } from './session-key.js'
export { createIdentity, type Identity, type IdentityParts } from './identity.js'
export type { ActiveRecord, BarredRecord, LoadedUser, SessionExtra, SessionProfile, SessionUser, UserRecord } from './user.js'
export { SourceUnavailable, type LoadRequest, type SourceLog, type SourceScope, type UserChange, type UserSource, type WatchedTable } from './user-source.js'
export type { ClientLike, PoolLike, Queryable, StatementConfig } from './pool-like.js'
export { pause, withinDeadline } from './within-deadline.js'
export { quotedName, sqlLiteral } from './quoted.js'
export { readMarkSql, serverMarkSql, untoldMark } from './read-mark.js'
export { columnName, isName, maxNameBytes, nameOf } from './database-name.js'
export { columnOr, issuerColumn, type ColumnOr } from './column-or-constant.js'
export {
  anonymous, failed, identified, isRevoked, outcomeOf, refused, refusedByStatus, revoked, unavailable, userOutcome,
  type AnonymousOutcome, type BearerRefusal, type FailedOutcome, type ForbiddenOutcome, type IdentifiedOutcome, type RefusedOutcome, type SessionOutcome, type StatusRefusal,
  type UnavailableOutcome, type Unresolved, type UserOutcome
} from './session-outcome.js'
export { outcomeOfThrown, unacceptedCredentials, unreadableCredentials } from './thrown-outcome.js'
export type { Admin, Component, Distribution, Health, Instrument, Sync } from './component.js'
export { parseProviderTimestamp } from './provider-timestamp.js'
export { databaseFailureOf, isMisnamed, isOutage, isPlanOutdated, type DatabaseFailure, type StatementAuthor } from './database-failure.js'
export { asSent } from './as-sent.js'
export {
  instantMsOfText, instantMsSql, jsonOfText, objectOfText, revisionOfText, tokensValidFromMsOfText, type TextRow
} from './row-text.js'
export { extraField, extraOfRow, extraSql } from './extra-columns.js'
export { sendStatement, type SourceStatement } from './send-statement.js'
export { StatementNames } from './statement-names.js'
export { readConnection, type ConnectionConfig, type ConnectionReading } from './connection-config.js'
export { withdrawalOf, type Withdrawal } from './withdrawal.js'
export { Withdrawals, type WithdrawalLogger } from './withdrawals.js'
export { sourceFailureOf } from './source-failure.js'
export { hubOptionNames, hubOptionRules, type HubOptionValues, type RefusalFormat, type RefuseRule, type SessionHubOptions } from './hub-options.js'
export { compileRouteSession, defaultRouteSession, type RouteSession } from './route-session.js'
export {
  callable, clockObject, describe, durationMs, flag, integer, invalidOption, listOf, maxDelayMs, objectWith, oneOf, optional, ratio, readOptions, rule, secretText,
  text, withDefault, type OptionRule, type OptionRules
} from './option-rules.js'
