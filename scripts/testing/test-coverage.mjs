import { Report } from 'c8'

/**
 * Whether enough of the src/ of the package in the current folder was reached; tells where it was not.
 *
 * @param {string} tempDirectory - where V8 left what it saw (NODE_V8_COVERAGE)
 * @param {Record<'lines' | 'statements' | 'functions' | 'branches', number>} demanded - in percent
 */
export async function meetsCoverage (tempDirectory, demanded) {
  const report = new Report({ tempDirectory, include: ['src/**'], extension: ['.ts'], reporter: ['text'], skipFull: true, excludeNodeModules: true })
  const summary = (await report.getCoverageMapFromAllCoverageFiles()).getCoverageSummary()
  const short = Object.entries(demanded).filter(([kind, percent]) => !(summary[kind].pct >= percent))
  if (short.length === 0) return true
  await report.run()
  console.log(`Coverage is short: ${short.map(([kind, percent]) => `${kind} ${summary[kind].pct} % of at least ${percent} %`).join(', ')}`)
  return false
}
