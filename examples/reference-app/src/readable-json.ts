const maxColumns = 80

/**
 * JSON for people: what fits a line of 80 columns stands on one; where every part does, lines are filled; the rest is indented.
 *
 * @param column - where the value begins
 */
export function readableJson (value: unknown, indent: string = '', column: number = indent.length): string {
  const line = inOneLine(value)
  // One column is kept for a comma.
  if (typeof value !== 'object' || value === null || column + line.length < maxColumns) return line
  const inner = `${indent}  `
  const parts = Array.isArray(value)
    ? value.map(item => readableJson(item, inner))
    : Object.entries(value).map(([name, item]) => {
      const key = `${JSON.stringify(name)}: `
      return `${key}${readableJson(item, inner, inner.length + key.length)}`
    })
  const lines = parts.some(part => part.includes('\n')) ? parts : filled(parts, maxColumns - inner.length)
  const [open, close] = Array.isArray(value) ? '[]' : '{}'
  return `${open}\n${lines.map(part => `${inner}${part}`).join(',\n')}\n${indent}${close}`
}

/** As few lines as hold the parts in their order, each with room for a comma. */
function filled (parts: readonly string[], columns: number): string[] {
  const lines: string[] = []
  for (const part of parts) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + part.length + 3 <= columns) lines[lines.length - 1] = `${last}, ${part}`
    else lines.push(part)
  }
  return lines
}

function inOneLine (value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(inOneLine).join(', ')}]`
  const parts = Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${inOneLine(item)}`)
  return parts.length === 0 ? '{}' : `{ ${parts.join(', ')} }`
}
