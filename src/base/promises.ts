/** Words for the few reasons why the error of a promise is not looked at here. */

/** Whoever awaits it meets its error; until then it is not an unhandled one. */
export function awaitedLater<T>(promise: Promise<T>): Promise<T> {
  // As its name says.
  promise.catch(() => {});
  return promise;
}

/** Resolves when it has ended, however: its error is told elsewhere, or concerns nobody any more. */
export async function whenSettled(promise: Promise<unknown> | undefined): Promise<void> {
  // As its name says.
  await promise?.catch(() => {});
}
