/** Whether this is an http or https URL without user name and password. */
export function isWebUrl (input: unknown): input is string {
  if (typeof input !== 'string' || !URL.canParse(input)) return false
  const { protocol, username, password } = new URL(input)
  return (protocol === 'https:' || protocol === 'http:') && username === '' && password === ''
}
