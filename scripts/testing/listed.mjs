/**
 * Every test that was skipped or failed, by file and name, each with its reason and a failed one with all that is known. Empty where there is none.
 *
 * @param {{ file: string, name: string, outcome: string, why: string }[]} cases
 */
export function listed (cases) {
  return ['skipped', 'failed'].map(outcome => {
    const found = cases.filter(testCase => testCase.outcome === outcome)
    return found.length === 0 ? '' : `\n${outcome}:\n${found.map(({ file, name, why }) => `  ${file}: ${name}\n${why.replace(/^/gm, '    ')}\n`).join('')}`
  }).join('')
}
