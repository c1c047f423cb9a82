// Promises taken out of the code one at a time; `npm run test:mutants` expects the tests to notice each.
// `without`: what is taken out (text or expression that occurs once), `put`: what comes in its place, `tests`: who has to notice.
const flight = 'packages/session-cache/src/flight.ts'
const freshness = 'packages/session-cache/src/freshness.ts'
const cache = 'packages/session-cache/src/user-session-cache.ts'
const manager = 'packages/session-cache/src/database-session-manager.ts'
const gate = 'packages/session-cache/src/source-gate.ts'
const polled = 'packages/session-cache/src/coherence/polled-trust.ts'
const snapshots = 'packages/session-cache/src/coherence/snapshot.ts'
const judge = 'packages/session-cache/src/outbox/judge-outbox.ts'
const facts = 'packages/session-cache/src/outbox/trigger-facts.ts'
const functions = 'packages/session-cache/src/outbox/outbox-functions.ts'
const install = 'packages/session-cache/src/outbox/install-outbox.ts'
const bell = 'packages/session-cache/src/bell/reconnecting-bell.ts'
const relay = 'packages/session-cache/src/bell/relay.ts'
const tokens = 'packages/session-identity/src/token-cache.ts'
const verifier = 'packages/session-identity/src/token-verifier.ts'
const jwksSource = 'packages/session-identity/src/jwks-source.ts'
const discover = 'packages/session-identity/src/discovery.ts'
const privateHost = 'packages/session-identity/src/private-host.ts'
const publishedKey = 'packages/session-identity/src/verifying-key.ts'
const claims = 'packages/session-identity/src/claims.ts'
const credentials = 'packages/session-identity/src/credentials.ts'
const crossSite = 'packages/session-identity/src/cross-site.ts'
const tableSource = 'packages/session-cache/src/table/table-source.ts'
const tablePlan = 'packages/session-cache/src/table/table-plan.ts'
const tableRow = 'packages/session-cache/src/table/table-row.ts'
const revision = 'packages/smart-sync/src/sql/revision-trigger.ts'
const update = 'packages/smart-sync/src/sql/update-users.ts'
const adoption = 'packages/smart-sync/src/adoption.ts'
const migrate = 'packages/smart-sync/src/migrate.ts'
const hook = 'packages/session-contract/src/hub/resolve-session.ts'
const signature = 'packages/smart-sync/src/webhook-signature.ts'
const event = 'packages/smart-sync/src/clerk/clerk-webhook.ts'
const creations = 'packages/smart-sync/src/sql/creation-lock.ts'
const upsert = 'packages/smart-sync/src/sql/upsert-users.ts'
const observed = 'packages/smart-sync/src/sql/observed-rows.ts'
const ended = 'packages/smart-sync/src/sql/ended-sessions.ts'
const deletion = 'packages/smart-sync/src/sql/mark-deleted.ts'
const store = 'packages/smart-sync/src/postgres-user-store.ts'
const userUpdate = 'packages/smart-sync/src/user-update.ts'
const writer = 'packages/smart-sync/src/user-writer.ts'
const applier = 'packages/smart-sync/src/observation-applier.ts'
const applyUpdates = 'packages/smart-sync/src/apply-updates.ts'

const model = ['test/model.test.ts']
const races = ['test/races.test.ts']
const marks = ['test/read-mark.test.ts']
const core = ['test/core.test.ts']
const hooks = ['test/webhooks.test.ts']
const applies = ['test/apply.test.ts']
const converges = ['test/convergence.test.ts']
const trust = ['test/trust.test.ts', 'test/core.test.ts']
const polling = ['test/polled-trust.test.ts']
const outbox = ['test/outbox.test.ts']
const proofs = ['test/outbox-proof.test.ts']
const rings = ['test/relay.test.ts']
const hub = ['test/hub.test.ts']
const cookies = ['test/cookies.test.ts']
const tokenRules = ['test/token-rules.test.ts']
const discovery = ['test/discovery.test.ts']
const newKeys = ['test/new-keys.test.ts']
const keys = ['test/keys.test.ts']
const ownTable = ['test/table-source.test.ts']
const revisions = ['test/revision.test.ts']
const adoptions = ['test/adoption.test.ts']
const outages = ['test/source-gate.test.ts', 'test/core.test.ts']

export const mutants = [
  // Loads and changes: noticed by hand-written races and, on its own, by the model.
  { name: 'the floor: a load that brings less than was announced is stored', file: flight, without: ' && record.revision >= this.#floor', put: '', tests: races },
  { name: 'the same, by the model alone', file: flight, without: ' && record.revision >= this.#floor', put: '', tests: model },
  { name: 'the flush: a load from before is stored', file: flight, without: ' || this.#generation !== generation', put: '', tests: races },
  { name: 'the same, by the model alone', file: flight, without: ' || this.#generation !== generation', put: '', tests: model },
  { name: 'the epoch: a load from before its end is stored', file: flight, without: ' || this.#epoch !== epoch', put: '', tests: trust },
  { name: 'whoever comes after an invalidation shares the load from before', file: flight, without: 'this.#floor === Infinity || ', put: '', tests: races },
  { name: 'whoever comes after an announcement shares a load that brings less', file: flight, without: '  if (landing.record.revision < boarding.floor) return false\n', put: '', tests: model },
  { name: 'a waiter is answered by a load that is too old for it', file: flight, without: '  if (boarding.departed && ageOf(landing, demand.monotonicMs, demand.wallMs) >= demand.maxAgeMs) return false\n', put: '', tests: model },
  { name: 'a user of before is shown after one that was not stored', file: cache, without: 'this.#forget(keyHash, held => held.revision !== revision)', put: '', tests: trust },
  { name: 'a load on its way may bring less than was shown', file: cache, without: '    if (next !== flight) next?.announce(revision)\n', put: '', tests: trust },
  { name: 'an announcement drops nothing', file: cache, without: "    store.remove(entry, 'invalidated')\n", put: '', tests: model },
  { name: 'an announcement keeps a user from before a deletion that was not announced', file: cache, without: ' && entry.epoch === this.#epoch\n', put: '\n', tests: races },
  { name: 'what was read elsewhere is stored', file: cache, without: 'this.counters.isLastElsewhere = !(this.#parts.trust?.covers(record.readMark) ?? true)', put: '', tests: trust },
  { name: 'the same, by the model alone', file: cache, without: 'this.counters.isLastElsewhere = !(this.#parts.trust?.covers(record.readMark) ?? true)', put: '', tests: model },
  { name: 'the same, by real places', file: cache, without: 'this.counters.isLastElsewhere = !(this.#parts.trust?.covers(record.readMark) ?? true)', put: '', tests: marks },
  { name: 'two loads of one user at once', file: cache, without: 'this.#flightTo(keyHash) ?? this.#begin', put: 'this.#begin', tests: model },
  // Age.
  { name: 'the bound of the bus', file: freshness, without: ' || stalenessMs >= boundMs', put: '', tests: trust },
  { name: 'the same, by the model alone', file: freshness, without: ' || stalenessMs >= boundMs', put: '', tests: model },
  { name: 'a proof counts for users of other epochs', file: freshness, without: 'if (entry.epoch === trust.epoch) ', put: '', tests: trust },
  { name: 'expireAfterMs under a bus that proves for ever', file: freshness, without: 'ageMs >= entry.expireAfterMs || ', put: '', tests: trust },
  { name: 'the wall clock: a machine that slept', file: freshness, without: 'Math.max(monotonicMs - loaded.loadedAtMs, wallMs - loaded.loadedWallMs)', put: 'monotonicMs - loaded.loadedAtMs', tests: model },
  { name: 'the monotonic clock: a wall clock that was set back', file: freshness, without: 'Math.max(monotonicMs - loaded.loadedAtMs, wallMs - loaded.loadedWallMs)', put: 'wallMs - loaded.loadedWallMs', tests: model },
  { name: 'the bound of what is served on error', file: freshness, without: /overdueMs\(.*\) < entry\.staleIfErrorMs \? 'suspect' : 'dead'/, put: "'suspect'", tests: model },
  { name: 'jitter lengthens', file: freshness, without: '1 - 0.1 * random', put: '1 + 0.1 * random', tests: core },
  // Bounds.
  { name: 'the bound of the negative entries', file: cache, without: 'Math.ceil(parts.maxEntries / 10)', put: 'parts.maxEntries', tests: core },
  { name: 'the bound of the waiters', file: cache, without: /\n.*this\.#waiting >= this\.#parts\.maxWaiters\) throw .*\n/, put: '\n', tests: core },
  { name: 'the bound of the loads', file: cache, without: /\n.*this\.#inFlight >= this\.#parts\.maxLoads\) throw .*\n/, put: '\n', tests: model },
  // Outages.
  { name: 'the patience with a source that hangs', file: manager, without: 'const patienceMs = 75', put: 'const patienceMs = 60_000', tests: outages },
  { name: 'the gate never opens', file: gate, without: '    this.#isOpen = true\n', put: '', tests: outages },
  { name: 'the gate is asked nothing before a load', file: manager, without: 'if (!this.gate.isOpen) return this.#load', put: 'return this.#load', tests: outages },
  { name: 'failures from before it closed open the gate again', file: gate, without: 'if (era === this.#era) this.#note', put: 'this.#note', tests: outages },
  { name: 'a defect passes for an outage', file: manager, without: /\n.*if \(!\(error instanceof SourceUnavailable\)\) \{\n.*\n.*\n +\}\n/, put: '\n', tests: core },
  { name: 'a probe asks without the identity that was refused', file: gate, without: '...this.#candidate!, force: false', put: '...this.#candidate!, identity: null, force: false', tests: outages },
  // What announces.
  { name: 'an epoch goes on after a flaw', file: polled, without: '      this.#position = null\n', put: '', tests: polling },
  { name: 'an answer that does not go on from the last one proves in the same epoch', file: polled, without: 'if (!isUnbroken) this.#beginEpoch()', put: '', tests: polling },
  { name: 'an answer that is late is read', file: polled, without: 'if (this.#awaited === n) this.#conclude(sent, answer)', put: 'this.#conclude(sent, answer)', tests: polling },
  { name: 'a survey of any age proves', file: polled, without: 'answered.findLastIndex(({ position }) => isFoundAfter(position))', put: 'answered.length - 1', tests: polling },
  { name: 'time that went back is not noticed', file: snapshots, without: /\n.*if \(!seesAllOf\(read, asked\)\).*\n/, put: '\n', tests: polling },
  { name: 'what was removed is not noticed', file: snapshots, without: /\n.*if \(!seesAllOf\(asked, removed\)\).*\n/, put: '\n', tests: polling },
  { name: 'what other triggers change unseen is not looked for', file: judge, without: 'if (isListed && unseen.length > 0)', put: 'if (false as boolean)', tests: outbox },
  { name: 'what other triggers change unseen is not heeded by the SQL that installs', file: install, without: /\n +OR EXISTS \(SELECT FROM unnest\(tree\) .*<> '\{\}'\) THEN/, put: ' THEN', tests: outbox },
  { name: 'a trigger that is disabled counts', file: facts, without: " AND u.tgenabled <> 'D'", put: '', tests: outbox },
  { name: 'a partition that is watched by itself is left to its parent', file: install, without: ' AND member.oid <> target', put: '', tests: outbox },
  { name: 'the SQL that installs waits for readers', file: install, without: "EXECUTE format('CREATE OR REPLACE TRIGGER", put: "EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', wanted.name, member.name); EXECUTE format('CREATE TRIGGER", tests: outbox },
  { name: 'the SQL that installs calls what others define', file: 'packages/session-cache/src/outbox/locked-transaction.ts', without: "PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);", put: '', tests: outbox },
  { name: 'temporary tables of others count', file: facts, without: 'NOT pg_catalog.pg_is_other_temp_schema(c.relnamespace)', put: 'true', tests: outbox },
  { name: 'what the server keeps is listed', file: install, without: ' AND a.attnum > 0', put: '', tests: outbox },
  { name: 'a harmless trigger counts', file: facts, without: / AND u\.tgname <> ALL \(\$\{harmless\}\)/, put: '', tests: outbox },
  { name: 'triggers that were there for a moment are not noticed', file: functions, without: 't.oid, t.xmin, p.oid, p.xmin', put: 't.oid', tests: outbox },
  { name: 'any column list will do', file: judge, without: 'columnList.every(column => list.includes(column))', put: 'true', tests: outbox },
  { name: 'a longer column list will do', file: judge, without: 'list.length === columnList.length && ', put: '', tests: outbox },
  { name: 'a column that triggers do not see is watched', file: judge, without: 'if (invisible !== undefined)', put: 'if (false as boolean)', tests: outbox },
  { name: 'a column that is gone is listed', file: install, without: /IF EXISTS \(SELECT FROM unnest\(listed\)(?:.*\n)+? +OR /, put: 'IF ', tests: outbox },
  { name: 'the function of another owner will do', file: facts, without: /\$\{procedure\}\.proowner = \$\{owner\} AND /, put: '', tests: outbox },
  { name: 'the outbox of another role will do', file: judge, without: 'if (!outbox.entitled)', put: 'if (false as boolean)', tests: outbox },
  { name: 'an answer from a snapshot that is left over counts', file: functions, without: "    WHEN current_setting('transaction_isolation') <> 'read committed' THEN 'isolation'\n", put: '', tests: proofs },
  { name: 'an answer from a transaction that has written counts', file: functions, without: "    WHEN pg_current_xact_id_if_assigned() IS NOT NULL THEN 'writing'\n", put: '', tests: proofs },
  { name: 'what was under way is not asked for', file: functions, without: 'WHERE o.xid = ANY (ARRAY(SELECT pg_snapshot_xip(since)))', put: 'WHERE false', tests: proofs },
  { name: 'a copy keeps the mark of the original', file: functions, without: /= ARRAY\[here\] AND EXISTS \(SELECT FROM \$\{horizon\}\) THEN(?=\n {4}RETURN;\n {2}END IF;\n {2}-- One at a time)/, put: 'IS NOT NULL THEN', tests: proofs },
  { name: 'changes that an instance has not read are removed unnoticed', file: functions, without: /SET seen = last\.seen, taken/, put: 'SET taken', tests: proofs },
  // A table of one's own.
  { name: 'what the database takes for equal is the same user', file: tableSource, without: 'row === undefined ? unknown : recordOfRow(row,', put: 'recordOfRow(row ?? rows[0],', tests: ownTable },
  { name: 'a token of another issuer finds a user', file: tableSource, without: ' || ours.always === issuer) return true', put: ') return true\n    if (ours.always !== "") return true', tests: ownTable },
  { name: 'a subject that the column cannot hold fails the others', file: tableSource, without: ' && plan.accepts(subject)', put: '', tests: ownTable },
  { name: 'a letter that the encoding lacks fails the others', file: tableSource, without: 'if (!isOfData(error) || first === undefined) throw error', put: 'throw error', tests: ownTable },
  { name: 'a table that changed is read as it was', file: tableSource, without: 'if (renewed.text === plan.text) throw error', put: 'throw error', tests: ownTable },
  { name: 'the mark is computed for each row', file: tablePlan, without: "'m.mark AS \"readMark\"'", put: 'readMarkSql(table) + \' AS "readMark"\'', tests: marks },
  { name: 'a user who was not found is not told to be of any place', file: tableSource, without: ', ...markOfRow(rows[0]) }', put: ' }', tests: marks },
  { name: 'a transaction that was left over is not told by a write', file: update, without: /FROM \$\{markTaken\}, /, put: 'FROM ', tests: marks },
  { name: 'several rows may name one user', file: tablePlan, without: 'index.every(column => key.includes(column))', put: 'true', tests: ownTable },
  { name: 'a deleted user of a table is active', file: tableRow, without: "if (isTrue(row['deletedAt']))", put: 'if (false)', tests: ownTable },
  // The revision, and tables that are taken over.
  { name: 'what plain equality takes for the same is no change', file: revision, without: 'record_image_ne', put: 'record_ne', tests: revisions },
  { name: 'a column that another version reads is left out', file: revision, without: ', ...before])', put: '])', tests: revisions },
  { name: 'what other triggers change unseen does not count', file: revision, without: ' && facts.beforeUpdate.every(name => harmlessTriggers.includes(name))', put: '', tests: revisions },
  { name: 'the trigger of the revision fails an update', file: revision, without: /\nEXCEPTION WHEN OTHERS THEN\n {2}--[^]*?END;\n {2}RETURN NEW;\nEND/, put: '\nEND', tests: revisions },
  { name: 'what is computed is not told of', file: revision, without: "generated === '' ? [name] : bases", put: '[name]', tests: revisions },
  { name: 'one user may write the row of another', file: adoption, without: 'key.filter(part => columnOf(facts, part)?.isDeterministic === false)', put: 'key.filter(() => false)', tests: adoptions },
  { name: 'a constraint that is checked late will do', file: adoption, without: 'createUsers && unique.some(({ isImmediate }) => !isImmediate)', put: 'false', tests: adoptions },
  { name: 'users whose rows name no issuer get a second one', file: adoption, without: "hasRowsWithoutIssuer && typeof issuer === 'string'", put: 'false', tests: adoptions },
  { name: 'rows that are hidden are not looked for', file: adoption, without: 'facts.hidden.length > 0', put: 'false', tests: adoptions },
  { name: 'a users table that cannot be written is migrated', file: migrate, without: /(?<=await apply\(client, table, to\)\n.*\n) +if \(isStrict\) insistOn\(adoption\)\n/, put: '', tests: adoptions },
  { name: 'a start with nothing to do needs the rights of one that has', file: migrate, without: 'if (await isDone(client, table, to)) {', put: 'if (false as boolean) {', tests: ['test/postgres.test.ts'] },
  { name: 'users are written into a table that does not take them', file: 'packages/smart-sync/src/tables-gate.ts', without: 'if (this.#refusal !== null) throw', put: 'if (false as boolean) throw', tests: adoptions },
  { name: 'a subject is cut to the length of its column', file: 'packages/smart-sync/src/sql/keys.ts', without: "THEN o.subject || '.' ELSE", put: 'THEN o.subject ELSE', tests: adoptions },
  { name: 'a function of another role counts the revision', file: revision, without: 'existing.isOurs && ', put: '', tests: ['test/revision.test.ts'] },
  { name: 'a row that is refused spoils the note of others', file: 'packages/smart-sync/src/postgres-user-store.ts', without: 'if (!isRowRefusal((error as Error).cause)) throw error', put: 'throw error', tests: ['test/postgres.test.ts'] },
  { name: 'users are written into a table that nobody has looked at', file: 'packages/smart-sync/src/tables-gate.ts', without: 'adoption ?? unseen', put: 'adoption ?? { isReadable: true, refusals: [], warnings: [] }', tests: adoptions },
  { name: 'a row without a timestamp is never in step', file: 'packages/smart-sync/src/change-detection.ts', without: "{ sync: true, reason: 'unversioned' }", put: "once('due', due)", tests: ['test/core.test.ts'] },
  // State as a join.
  {
    name: 'a user who was deleted without a row gets one',
    file: upsert,
    without: 'WHERE NOT EXISTS (',
    put: 'WHERE true OR NOT EXISTS (',
    tests: converges
  },
  {
    name: "a row in the making outlives its user's deletion",
    file: creations,
    without: 'pg_advisory_xact_lock_shared(',
    put: 'coalesce(',
    tests: converges
  },
  {
    name: 'a deletion waits for no row in the making',
    file: store,
    without: 'awaited.has(holder)',
    put: 'false',
    tests: converges
  },
  {
    name: 'a row that was made since is not looked for again',
    file: store,
    without: 'users.get(key)?.deleted !== true',
    put: '!users.has(key)',
    tests: converges
  },
  {
    name: 'a row is removed from under a batch that does not see the tombstone',
    file: store,
    without: '      await this.#awaitCreations(deadline)\n      await this.#runner.ask(deleting, \'deleteMarked\'',
    put: "      await this.#runner.ask(deleting, 'deleteMarked'",
    tests: converges
  },
  {
    name: 'a deletion leaves no tombstone',
    file: deletion,
    without: '  ORDER BY k.place\n  ON CONFLICT DO NOTHING',
    put: '  WHERE false\n  ON CONFLICT DO NOTHING',
    tests: converges
  },
  {
    name: 'a deletion does not mark the row',
    file: deletion,
    without: ' = now()',
    put: ' = NULL',
    tests: converges
  },
  {
    name: 'a deletion is taken back by a later profile',
    file: userUpdate,
    without: '{ ...update, isDeleted: true }',
    put: '{ ...update, isDeleted: update.profile === null }',
    tests: applies
  },
  {
    name: 'of a batch the last profile counts',
    file: userUpdate,
    without: 'update.profile === null || isAbove(observation, update.profile)',
    put: 'true as boolean',
    tests: converges
  },
  {
    name: 'of two changes in one millisecond the later to come counts',
    file: observed,
    without: ' COLLATE "C" < ',
    put: ' <> ',
    tests: converges
  },
  {
    name: 'a row with the same content is written anew',
    file: observed,
    without: /WHEN \$\{own\('fingerprint'\)\} = \S+ THEN/,
    put: 'WHEN false THEN',
    tests: applies
  },
  {
    name: 'a session that ended twice counts from the earlier end',
    file: ended,
    without: 'a.until DESC NULLS FIRST',
    put: 'a.until NULLS FIRST',
    tests: converges
  },
  {
    name: 'the same, within a batch',
    file: userUpdate,
    without: 'Math.max(tokensExpireAtMs, ',
    put: 'Math.min(tokensExpireAtMs, ',
    tests: applies
  },
  {
    name: 'the end of a session is no news where the profile is none',
    file: observed,
    without: / OR (?=\$\{addsSessions)/,
    put: ' AND ',
    tests: converges
  },
  {
    name: 'an answer does not wait for its dead letter',
    file: writer,
    without: 'await this.keep(letters, origin, deadline)\n    return byKey',
    put: 'this.keep(letters, origin, deadline).catch(() => {})\n    return byKey',
    tests: applies
  },
  {
    name: 'what was acknowledged goes with a crash where commits do not wait for the disk',
    file: creations,
    without: "THEN \\'on\\'",
    put: "THEN \\'off\\'",
    tests: converges
  },
  {
    name: 'the deletion of a user of another issuer is that of ours',
    file: applier,
    without: 'this.#options.store.mayHold?.(user) !== false',
    put: 'true as boolean',
    tests: applies
  },
  {
    name: 'an address is taken from a user before another of the batch gives it up',
    file: applyUpdates,
    without: '(await writeInBatches([update], { maxWrites, write, refused: refusedAgain, failed })).values()',
    put: 'new Map<string, Applied>().values()',
    tests: converges
  },
  {
    name: 'of a profile that is refused the ban is forgotten',
    file: applyUpdates,
    without: "?.kind === 'refused' && profile",
    put: "?.kind === 'refused' && false && profile",
    tests: applies
  },
  {
    name: 'what is stored of a banned user depends on what had come before',
    file: applyUpdates,
    without: '{ ...update.profile!, profile: nothing }',
    put: "{ ...update.profile!, fingerprint: '0' + update.profile!.fingerprint.slice(1), profile: nothing }",
    tests: converges
  },
  { name: 'what a table drops without an error is taken for no news', file: applyUpdates, without: 'isStillNews(update, user) ?', put: 'false ?', tests: applies },
  { name: 'a row that a table did not make is taken for a deleted user', file: applyUpdates, without: 'stones.has(key) ?', put: 'true ?', tests: applies },
  { name: 'a row that the app made for a deleted user lives', file: applyUpdates, without: 'stored !== null && stored.fingerprint === null', put: 'false', tests: applies },
  { name: 'a contested address is never tried again', file: applyUpdates, without: 'fingerprint: below, ', put: '', tests: applies },
  { name: 'the server goes on with a write whose answer has no reader', file: creations, without: "    atMost('statement_timeout', statementTimeoutMs),\n", put: '', tests: applies },
  { name: 'a process that hangs in a write keeps its locks', file: creations, without: "    atMost('idle_in_transaction_session_timeout', maxIdleMs)\n", put: '', tests: applies },
  { name: 'a connection on loan has no listener for a turn', file: 'packages/smart-sync/src/acquire-client.ts', without: "    const take = (client: ClientLike): void => {\n      client.on('error', ignore)\n", put: '    const take = (client: ClientLike): void => {\n', tests: applies },
  {
    name: 'a date in the far future freezes its user',
    file: applier,
    without: 'isTooFarAhead(observation.version, nowMs)',
    put: 'false as boolean',
    tests: converges
  },
  {
    name: 'instances lock users in the order in which they came',
    file: 'packages/smart-sync/src/write-in-batches.ts',
    without: 'items.toSorted((a, b) => a.key < b.key ? -1 : 1)',
    put: '[...items]',
    tests: ['test/postgres.test.ts']
  },
  {
    name: 'a login waits for a slow provider',
    file: 'packages/smart-sync/src/request-lane.ts',
    without: 'providerPatienceMs = 75',
    put: 'providerPatienceMs = 5000',
    tests: applies
  },
  // Webhooks.
  {
    name: 'a timestamp is the number that it begins with',
    file: signature,
    without: '/^[1-9]\\d{0,11}$/',
    put: '/^[1-9]\\d{9}/',
    tests: hooks
  },
  {
    name: 'a webhook may come from the future',
    file: signature,
    without: 'Math.abs(nowSeconds - sentAtSeconds)',
    put: '(nowSeconds - sentAtSeconds)',
    tests: hooks
  },
  {
    name: 'bytes that are no text are verified as the text that replaces them',
    file: signature,
    without: 'if (!isUtf8(body)) return',
    put: 'if (false as boolean) return',
    tests: hooks
  },
  {
    name: 'only the first of several secrets counts',
    file: signature,
    without: 'this.#signers.some(',
    put: 'this.#signers.slice(0, 1).some(',
    tests: hooks
  },
  {
    name: 'a header may come twice',
    file: signature,
    without: '(?!.*, )',
    put: '',
    tests: hooks
  },
  {
    name: 'the events of any instance are taken',
    file: event,
    without: 'instanceId !== null && from !== instanceId',
    put: 'false as boolean',
    tests: hooks
  },
  {
    name: 'the end of a session is as late as its delivery',
    file: event,
    without: 'Math.min(parseProviderTimestamp(timestamp) ?? nowMs, nowMs)',
    put: 'nowMs',
    tests: hooks
  },
  {
    name: 'a session tells of any user',
    file: event,
    without: 'profile?.subject === subject ? profile : null',
    put: 'profile',
    tests: hooks
  },
  {
    name: 'the parsers of the app read webhooks',
    file: 'packages/smart-sync/src/webhook-routes.ts',
    without: 'scope.removeAllContentTypeParsers()',
    put: '',
    tests: hooks
  },
  {
    name: 'a webhook needs a session where other routes do',
    file: 'packages/smart-sync/src/webhook-routes.ts',
    without: 'config: { session: false }',
    put: 'config: {}',
    tests: hooks
  },
  {
    name: 'what hooks of the app throw is a webhook that was refused',
    file: 'packages/smart-sync/src/webhook-routes.ts',
    without: 'if (refusal === null) throw error',
    put: 'if (refusal === null) return answer(receiver.refuse(error), request, reply)',
    tests: hooks
  },
  {
    name: 'a store that hangs keeps the sender waiting',
    file: 'packages/smart-sync/src/webhook-receiver.ts',
    without: "await withinDeadline(this.#store(headers, body, deadline), deadline, 'The database')",
    put: 'await this.#store(headers, body, deadline)',
    tests: hooks
  },
  {
    name: 'a profile that is refused keeps an ended session alive',
    file: applier,
    without: 'profile !== null && !isDeleted && observation !== profile',
    put: 'false',
    tests: ['test/webhooks-stored.test.ts']
  },
  {
    name: 'a secret in place of the options is shown',
    file: 'packages/session-contract/src/option-rules.ts',
    without: 'describe(given, true)',
    put: 'describe(given, false)',
    tests: core
  },
  // Who may pass.
  { name: 'a revoked token passes on a hit', file: manager, without: 'entry.revoking !== null && isRevoked(entry.revoking, identity) ? revoked : entry.fresh', put: 'entry.fresh', tests: core },
  { name: 'a ring that failed is forgotten', file: relay, without: 'this.#owes ||= messages.length > 0', put: '', tests: rings },
  { name: 'what an answer could not hold is not told', file: relay, without: 'isCut ? [pollRing] : messagesOf(changes)', put: 'messagesOf(changes)', tests: rings },
  { name: 'a lease never ends', file: relay, without: 'sentAtMs + relayLeaseMs', put: 'Infinity', tests: rings },
  { name: 'the relay asks while a question is on its way', file: relay, without: 'await this.#relay()', put: 'void this.#relay()', tests: rings },
  { name: 'a bell hears a connection that it has given up', file: bell, without: 'if (isCurrent()) this.#hear(message)', put: 'this.#hear(message)', tests: rings },
  { name: 'a silent bell is believed', file: bell, without: 'this.#lose(`No answer', put: 'void (`No answer', tests: rings },
  { name: 'a record of another user', file: 'packages/session-cache/src/checked-record.ts', without: "user['issuer'] !== request.issuer || user['subject'] !== request.subject", put: 'false', tests: core },
  { name: 'the expiry of a token is not checked again on a hit', file: tokens, without: 'nowMs < entry.untilMs && ', put: '', tests: core },
  { name: 'what the app accepts for a while is remembered for longer', file: 'packages/session-identity/src/signature-check.ts', without: 'app.options?.verify?.maxAge === undefined', put: 'true', tests: ['test/plugin.test.ts'] },
  { name: 'a withdrawn key still vouches for its tokens', file: tokens, without: ' && entry.key.trusted', put: '', tests: core },
  { name: 'half as many tokens are remembered as maxTokens says', file: tokens, without: 'maxSize: maxTokens', put: 'maxSize: Math.max(1, maxTokens / 2)', tests: core },
  { name: 'a token that was seen before keeps the header line of its next request', file: tokens, without: 'token: flat(token)', put: 'token', tests: ['test/token-cache.test.ts'] },
  // Routes.
  { name: 'a route that does not ask refuses', file: 'packages/session-contract/src/hub/refusal.ts', without: "refuse === 'always' && outcome.kind === 'refused'", put: "outcome.kind === 'refused'", tests: hub },
  { name: 'a refused user is named to the route', file: hook, without: "outcome.kind === 'identified' ? identity : null", put: 'identity', tests: hub },
  { name: 'a defect is not logged', file: hook, without: /\n.*'a defect kept the session from being resolved'\)\n/, put: '\n', tests: hub },
  { name: 'a route out of scope that demands a session serves', file: 'packages/session-contract/src/hub/session-hub.ts', without: 'done(hubOf(this) === undefined ? outOfScopeError(request) : undefined)', put: 'done()', tests: hub },
  { name: 'two hooks act on one request', file: hook, without: 'this[hookedKey] === scope', put: 'true', tests: hub },
  { name: 'a slot may say that no plugin resolves users', file: 'packages/session-contract/src/hub/checked-answer.ts', without: "case 'anonymous': case 'forbidden': return found", put: "case 'anonymous': case 'forbidden': case 'identified' as never: return found", tests: hub },
  { name: 'a route out of scope is not looked for at the start', file: 'packages/session-contract/src/hub/session-hub.ts', without: 'outside.throwIfAny()', put: '', tests: hub },
  { name: 'what identify throws is a defect whatever its status', file: 'packages/session-contract/src/thrown-outcome.ts', without: 'code === undefined || code < 400 || code > 499', put: 'true', tests: hub },
  // Credentials.
  { name: 'a refused bearer token falls back to the cookie', file: credentials, without: "=== '' ? unreadable : match[2]", put: "=== '' ? fromCookies(headers.cookie, cookieName) : match[2]", tests: core },
  { name: 'another scheme hides the cookie', file: credentials, without: "!== 'bearer') return fromCookies(headers.cookie, cookieName)", put: "!== 'bearer') return anonymous", tests: cookies },
  { name: 'the first cookie counts, not the newest', file: verifier, without: '.sort((one, other) => issuedAt(other) - issuedAt(one))', put: '', tests: cookies },
  { name: 'any number of signatures is checked for one request', file: verifier, without: '      if (checked === maxSignatures) break\n', put: '', tests: cookies },
  { name: 'the first cookie that is bad ends the search', file: verifier, without: "if (found.kind === 'unavailable') undecided = [...undecided, token]", put: 'return this.#noGoodCookie()', tests: cookies },
  { name: 'a cookie counts on a request of another site', file: verifier, without: '!isCookieCounted(origin, policy.rules.authorizedParties)', put: 'false', tests: cookies },
  { name: 'a known cookie counts on a request of another site', file: verifier, without: 'tokens.length === 1 && crossSiteOrigin === null', put: 'tokens.length === 1', tests: cookies },
  { name: 'a sister site is the same site', file: crossSite, without: "site === 'same-origin' ||", put: "site === 'same-origin' || site === 'same-site' ||", tests: cookies },
  { name: 'a WebSocket may be opened from any site', file: crossSite, without: ' && !isWebSocket(headers.upgrade)', put: '', tests: cookies },
  { name: 'a browser without Sec-Fetch-Site is believed', file: crossSite, without: 'origin === undefined || isOf(origin, request.host) ? null : origin', put: 'null', tests: cookies },
  { name: 'a cookie read by @fastify/jwt counts on a request of another site', file: 'packages/session-identity/src/from-jwt.ts', without: 'isCookie && !isCookieCounted(crossSiteOrigin(request), rules.authorizedParties)', put: 'false', tests: cookies },
  // Tokens.
  { name: 'an OAuth token of Clerk counts as a session', file: claims, without: ' && audience !== null && !ofClerk)', put: ' && audience !== null)', tests: tokenRules },
  { name: 'an access token counts for any audience', file: claims, without: ' && audience !== null && !ofClerk)', put: ' && !ofClerk)', tests: tokenRules },
  { name: 'a token of Clerk without class and session counts', file: claims, without: "ofClerk && header['cat'] === undefined && typeof claims['sid'] !== 'string'", put: 'false', tests: tokenRules },
  { name: 'a good cookie waits for the key of another', file: verifier, without: "signerOf, 'none')", put: 'signerOf, patience)', tests: cookies },
  { name: 'a token that is not in the cookie header is deliberate', file: 'packages/session-identity/src/from-jwt.ts', without: '!isDeliberate(found, request)', put: 'request.raw.headers.cookie?.includes(found) === true', tests: cookies },
  { name: 'an ID token counts', file: claims, without: "if (isMarkedForAnotherUse(claims)) return 'The token is not an access token'", put: '', tests: tokenRules },
  { name: 'a machine of Clerk counts as a user', file: claims, without: "ofClerk && machineSubject.test(String(claims['sub']))", put: 'false', tests: tokenRules },
  { name: "every issuer is held to Clerk's rules", file: claims, without: "typeof kid === 'string' && kid.startsWith('ins_')", put: 'true', tests: tokenRules },
  { name: 'a token of another issuer counts where the issuer is constant', file: claims, without: 'iss === undefined && rules.isIssuerImplied', put: 'rules.isIssuerImplied', tests: tokenRules },
  { name: 'integers that JavaScript rounds name users', file: claims, without: 'Number.isSafeInteger(value)', put: 'Number.isInteger(value)', tests: tokenRules },
  { name: 'what is no string is taken for a token', file: verifier, without: "if (typeof token !== 'string') return this.#count(notAToken)", put: '', tests: tokenRules },
  // Keys.
  { name: 'a fetch that began before a token came refuses it', file: jwksSource, without: 'this.#lastGoodLoad > loadsStarted', put: 'this.#lastGoodLoad >= loadsStarted', tests: newKeys },
  { name: 'a fetch that failed refuses a token', file: jwksSource, without: 'this.#lastGoodLoad > loadsStarted', put: 'this.#lastEndedLoad > loadsStarted', tests: newKeys },
  { name: 'who may not wait waits', file: jwksSource, without: "patience !== 'cooldown' || ", put: '', tests: newKeys },
  { name: 'a request waits for a fetch that comes too late for it', file: jwksSource, without: ' || retryAfterMs >= remainingMs', put: '', tests: newKeys },
  { name: 'any number of requests waits', file: 'packages/session-identity/src/load-waiters.ts', without: 'if (this.#waiting.size >= this.#maxWaiting) return false', put: '', tests: newKeys },
  { name: 'closing leaves those waiting who wait', file: jwksSource, without: /this\.#timer\?\.cancel\(\)\n {4}this\.#waiters\.release\(\)/, put: 'this.#timer?.cancel()', tests: newKeys },
  { name: 'the document of another issuer is believed', file: discover, without: 'named !== issuer', put: 'false', tests: discovery },
  { name: 'keys are fetched without TLS', file: discover, without: "new URL(url).protocol !== 'https:' && own.protocol === 'https:'", put: 'false', tests: discovery },
  { name: 'keys are fetched from a private place', file: discover, without: "hostname !== own.hostname && await isPrivateHost(hostname, lookup, 'some')", put: 'false', tests: discovery },
  { name: 'a name is not looked up', file: privateHost, without: 'if (lookup === null) return false', put: 'return false', tests: discovery },
  { name: 'any failure of discovery leads to the well-known place', file: discover, without: ' && error.status === 404', put: '', tests: discovery },
  { name: 'a discovery is believed for ever', file: discover, without: 'if (ageMs >= keepForMs) throw cause', put: '', tests: discovery },
  { name: 'the keys stay where they cannot be loaded from', file: jwksSource, without: 'this.#locator.invalidate()', put: '', tests: discovery },
  { name: 'a key verifies any algorithm of its type', file: 'packages/session-identity/src/signature-check.ts', without: 'if (!key.algorithms.includes(alg)) continue', put: '', tests: keys },
  { name: 'a key for other operations verifies', file: publishedKey, without: "operations.includes('verify')", put: 'true', tests: keys },
  { name: 'operations that contradict the use are believed', file: publishedKey, without: '!besideUse || ', put: 'true || ', tests: keys },
  { name: 'a null member is a member', file: publishedKey, without: '.filter(([, value]) => value !== null)', put: '', tests: keys }
]
