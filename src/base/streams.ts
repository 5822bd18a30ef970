/**
 * What may have happened to a stream before anybody listened. A stream says `end` and `close` once; whoever begins to
 * listen later waits for ever. These look first.
 */
import type { Readable, Writable } from 'node:stream';

/**
 * Calls back once, when nothing more will come from the stream: at its end, or when it was destroyed; soon, if that has
 * been already.
 */
export function onceEnded(stream: Readable, listener: () => void): void {
  if (stream.readableEnded || stream.destroyed || stream.closed) {
    queueMicrotask(listener);
    return;
  }
  once(stream, ['end', 'close'], listener);
}

/**
 * Calls back once, when the stream is closed or destroyed; soon, if that has been already. Returns what takes that
 * back.
 */
export function onceClosed(stream: Readable | Writable, listener: () => void): () => void {
  if (!stream.destroyed && !stream.closed) return once(stream, ['close'], listener);
  let wanted = true;
  queueMicrotask(() => {
    if (wanted) listener();
  });
  return () => {
    wanted = false;
  };
}

/** Resolves when a stream whose `write` said false takes more, or never will. */
export function whenDrained(stream: Writable): Promise<void> {
  if (stream.destroyed || stream.closed || stream.writableFinished || !stream.writableNeedDrain)
    return Promise.resolve();
  return new Promise((resolve) => {
    once(stream, ['drain', 'close'], resolve);
  });
}

/** Resolves when all that was written is out, or never will be. The stream's end is its owner's to ask for. */
export function whenFinished(stream: Writable): Promise<void> {
  if (stream.destroyed || stream.closed || stream.writableFinished) return Promise.resolve();
  return new Promise((resolve) => {
    once(stream, ['finish', 'close'], resolve);
  });
}

/** Calls back once, when the signal aborts; soon, if it has. Returns what takes that back. */
export function onceAborted(signal: AbortSignal | undefined, listener: () => void): () => void {
  if (signal === undefined) return () => undefined;
  let wanted = true;
  if (signal.aborted)
    queueMicrotask(() => {
      if (wanted) listener();
    });
  else signal.addEventListener('abort', listener, { once: true });
  return () => {
    wanted = false;
    signal.removeEventListener('abort', listener);
  };
}

function once(stream: Readable | Writable, names: readonly string[], listener: () => void): () => void {
  const forget = (): void => {
    for (const name of names) stream.off(name, fire);
  };
  const fire = (): void => {
    forget();
    listener();
  };
  for (const name of names) stream.on(name, fire);
  return forget;
}
