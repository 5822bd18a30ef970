/** Resolves with the first signal that ends a process; the third one does so at once. */
export function endSignal(): Promise<string> {
  return new Promise((resolve) => {
    let count = 0;
    for (const signal of ['SIGTERM', 'SIGINT'])
      process.on(signal, () => {
        count += 1;
        if (count === 3) process.exit(128 + 15);
        resolve(signal);
      });
  });
}
