import { scenarios } from '../src/scenarios/scenarios.js'
import { tryScenarios } from './fixtures/try-scenarios.js'

const { calm, halfOpenPoll, deafPoll, droppedPoll, frozenPollBackend, halfOpenPool, prunedSleeper } = scenarios
tryScenarios([calm, halfOpenPoll, deafPoll, droppedPoll, frozenPollBackend, halfOpenPool, prunedSleeper])
