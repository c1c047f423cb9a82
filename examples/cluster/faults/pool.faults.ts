import { scenarios } from '../src/scenarios/scenarios.js'
import { tryScenarios } from './fixtures/try-scenarios.js'

const { pgBouncer, terminateBehindPgBouncer, leftoverSnapshot, leftoverWriter, lostBell, lyingBell } = scenarios
tryScenarios([pgBouncer, terminateBehindPgBouncer, leftoverSnapshot, leftoverWriter, lostBell, lyingBell])
