/** Long work in pieces: between two of them other work of the process has its turn. */
export function giveWay(): Promise<void> { return new Promise((resolve) => { setImmediate(resolve); }); }
