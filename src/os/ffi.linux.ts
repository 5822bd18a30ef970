/**
 * The one wrapper of the foreign-function interface. Everything that calls a C library goes through `bindLibrary`,
 * so that another implementation (koffi has the same shape: a library, a name, a signature) can replace `node:ffi` here
 * alone.
 *
 * Calls are synchronous and run on the calling thread: what may block belongs in a worker. `errno` is the calling
 * thread's and is read at once after the call, before anything else may run.
 */
import * as ffi from 'node:ffi';

export type CType = 'i32' | 'u32' | 'i64' | 'u64' | 'pointer' | 'string' | 'buffer';
export type CArgument = number | bigint | string | Uint8Array | null;
export interface CSignature {
  arguments: readonly CType[];
  return: 'i32' | 'i64' | 'pointer' | 'void';
}
export type CFunction = (...args: CArgument[]) => number | bigint;

/** The functions of a shared library; throws when the library or a symbol is missing. */
export function bindLibrary<K extends string>(path: string, signatures: Record<K, CSignature>): Record<K, CFunction> {
  const library = ffi.dlopen(path);
  const out = {} as Record<K, CFunction>;
  for (const name of Object.keys(signatures) as K[])
    out[name] = widen(library.lib.getFunction(name, signatures[name]) as unknown as CFunction, signatures[name]);
  return out;
}

/** Lets callers pass plain numbers where C wants 64 bits. */
function widen(bound: CFunction, signature: CSignature): CFunction {
  const wide = signature.arguments.flatMap((type, at) =>
    type === 'i64' || type === 'u64' || type === 'pointer' ? [at] : [],
  );
  if (wide.length === 0) return bound;
  return (...args) => {
    for (const at of wide) {
      const value = args[at];
      if (typeof value === 'number') args[at] = BigInt(value);
      else if (value === null) args[at] = 0n;
    }
    return bound(...args);
  };
}

/** A NUL-terminated string at an address; empty for NULL. */
export function readCString(pointer: bigint): string {
  return pointer === 0n ? '' : (ffi.toString(pointer) ?? '');
}

/** The address of a buffer's bytes. The buffer must stay reachable as long as the address is used. */
export function addressOf(buffer: Uint8Array): bigint {
  return ffi.getRawPointer(buffer);
}

export function readInt32At(pointer: bigint): number {
  return ffi.getInt32(pointer, 0);
}
