/** Marks an error as one before which nothing was sent, so that sending again does no harm; see databaseFailureOf(). */
export function markUnsent<E extends object> (error: E): E {
  return Object.assign(error, { databaseFailure: 'unsent' })
}
