import { median } from '../measure/median.js'
import { figure, table } from '../measure/table.js'
import { peers, stack, type ContenderEntry } from './contenders.js'
import type { Crowd } from './crowd.js'
import type { Shown } from './measurement.js'

/** What a contender showed under one load, over its processes. */
export interface Figures extends Shown, Crowd {
  readonly lowestCpuShare: number
  readonly highestCpuShare: number
}

/** What the run came to. Shares from 0 to 1, times in microseconds of CPU. */
export interface Result {
  /** Of the load under which the stack did worst. */
  readonly cpuShare: number
  readonly addedMicros: number
  readonly loads: readonly Figures[]
  readonly peers: Readonly<Record<string, Figures & Comparison>>
}

/** A peer beside the stack, under the same load. */
export interface Comparison {
  /** The stack's share over the peer's. */
  readonly times: number
  /** The most that this can be: what a stack that added nothing would have. */
  readonly mostTimes: number
  /** What the peer adds over what the stack adds. */
  readonly addedTimes: number
}

/** What a request with a resolved user must leave of a bare one. */
const goal = 0.8

/** Medians over processes, and the extremes. */
export function figuresOf (crowd: Crowd, shown: readonly Shown[]): Figures {
  const shares = shown.map(({ cpuShare }) => cpuShare)
  return {
    ...crowd,
    cpuShare: median(shares),
    addedMicros: median(shown.map(({ addedMicros }) => addedMicros)),
    bareMicros: median(shown.map(({ bareMicros }) => bareMicros)),
    lowestCpuShare: Math.min(...shares),
    highestCpuShare: Math.max(...shares)
  }
}

/** @param loads - the stack's, the first of them the one that the peers had too */
export function resultOf (loads: readonly Figures[], ofPeers: Readonly<Record<string, Figures>>): Result {
  const worst = loads.reduce((one, other) => other.cpuShare < one.cpuShare ? other : one)
  return {
    cpuShare: worst.cpuShare,
    addedMicros: worst.addedMicros,
    loads,
    peers: Object.fromEntries(Object.entries(ofPeers).map(([name, figures]) => [name, { ...figures, ...compare(loads[0]!, figures) }]))
  }
}

function compare (stack: Figures, peer: Figures): Comparison {
  return { times: stack.cpuShare / peer.cpuShare, mostTimes: 1 / peer.cpuShare, addedTimes: peer.addedMicros / stack.addedMicros }
}

/** The result as a table, and what it says of the goals. */
export function report (result: Result): string {
  const row = ({ does }: ContenderEntry, figures: Figures, { times, addedTimes }: { readonly times: number | null, readonly addedTimes: number | null }): string[] => [
    `${does}, ${nameOf(figures)}`, figure(figures.cpuShare), `${figure(figures.lowestCpuShare)}–${figure(figures.highestCpuShare)}`,
    figure(figures.addedMicros), figure(figures.bareMicros), figure(times), figure(addedTimes)
  ]
  return [
    table([
      ['', 'bare / authenticated', 'over processes', 'added µs', 'bare µs', 'share, stack / peer', 'added, peer / stack'],
      ...result.loads.map(figures => row(stack, figures, { times: null, addedTimes: null })),
      ...peers.map(peer => row(peer, result.peers[peer.name]!, result.peers[peer.name]!))
    ]),
    '',
    ...result.loads.map(figures => `${nameOf(figures)}: ${figure(figures.cpuShare)} of the bare route; the goal is at least ${goal}: ${verdict(figures.cpuShare >= goal)}`),
    ...peers.map(({ name, goal: least }) => {
      const { times, mostTimes } = result.peers[name]!
      return `${name}: ${figure(times)} times its share; the goal is at least ${least}: ${verdict(times >= least!)}${mostTimes < least! ? `, as it would be by a stack that adds nothing (${figure(mostTimes)})` : ''}`
    })
  ].join('\n')
}

function nameOf ({ users, zipf }: Crowd): string {
  return `${users.toLocaleString('en')} users ${zipf === 0 ? 'uniform' : `Zipf ${zipf.toFixed(1)}`}`
}

function verdict (met: boolean): string {
  return met ? 'met' : 'MISSED'
}
