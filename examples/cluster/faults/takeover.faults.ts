import { scenarios } from '../src/scenarios/scenarios.js'
import { tryScenarios } from './fixtures/try-scenarios.js'

const { asynchronousCrash, failover, restoredCopy, switchedDatabase, laggingReplica, secondSchema, upgrade } = scenarios
tryScenarios([asynchronousCrash, failover, restoredCopy, switchedDatabase, laggingReplica, secondSchema, upgrade])
