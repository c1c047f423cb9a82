import { scenarios } from '../src/scenarios/scenarios.js'
import { tryScenarios } from './fixtures/try-scenarios.js'

const { partition, killPostgres, terminateAll, droppedTrigger, droppedTriggerSurveyed, droppedTriggerAgain, otherTrigger } =
  scenarios
tryScenarios([
  partition, killPostgres, terminateAll, droppedTrigger, droppedTriggerSurveyed, droppedTriggerAgain, otherTrigger
])
