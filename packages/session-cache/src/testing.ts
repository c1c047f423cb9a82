export { busConformance, type BusHarness, type ConformanceCase } from './coherence/bus-conformance.js'
export { memoryBus, MemoryHub, type MemoryBusOptions } from './coherence/memory-bus.js'
