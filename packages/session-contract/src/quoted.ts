/** A name as it stands in SQL, case and all. */
export function quotedName (name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A string as it stands in SQL, whatever `standard_conforming_strings` says. */
export function sqlLiteral (text: string): string {
  return text.includes('\\') ? `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'` : `'${text.replaceAll("'", "''")}'`
}
