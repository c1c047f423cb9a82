/** An identifier as it stands in a statement. */
export function quotedName (name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A string as it stands in a statement, whatever `standard_conforming_strings` says. */
export function literal (text: string): string {
  return text.includes('\\') ? `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'` : `'${text.replaceAll("'", "''")}'`
}
