/**
 * nftables by libnftables in text mode (libnftables(3)), or by `nft -f -` where the library is missing. One commit per
 * call: the kernel takes all of the text or nothing. The context belongs to the worker's thread.
 */
import { execFileSync } from 'node:child_process';
import { inNamespace } from './connect.linux.ts';
import { bindLibrary, readCString } from './ffi.linux.ts';
import type { CFunction } from './ffi.linux.ts';

type Library = Record<
  | 'nft_ctx_new'
  | 'nft_ctx_free'
  | 'nft_ctx_buffer_output'
  | 'nft_ctx_buffer_error'
  | 'nft_ctx_get_output_buffer'
  | 'nft_ctx_get_error_buffer'
  | 'nft_run_cmd_from_buffer'
  | 'nft_ctx_output_set_flags',
  CFunction
>;

let library: Library | undefined;
let context = 0n;
let tried = false;

function open(): void {
  tried = true;
  try {
    const pointer = { arguments: ['pointer'], return: 'pointer' } as const;
    const number = { arguments: ['pointer'], return: 'i32' } as const;
    library = bindLibrary('libnftables.so.1', {
      nft_ctx_new: { arguments: ['u32'], return: 'pointer' },
      nft_ctx_free: { arguments: ['pointer'], return: 'void' },
      nft_ctx_buffer_output: number,
      nft_ctx_buffer_error: number,
      nft_ctx_get_output_buffer: pointer,
      nft_ctx_get_error_buffer: pointer,
      nft_run_cmd_from_buffer: { arguments: ['pointer', 'string'], return: 'i32' },
      nft_ctx_output_set_flags: { arguments: ['pointer', 'u32'], return: 'void' },
    });
    context = newContext(library);
  } catch {
    library = undefined;
  }
}

function newContext(from: Library): bigint {
  const made = from.nft_ctx_new(0) as bigint;
  from.nft_ctx_buffer_output(made);
  from.nft_ctx_buffer_error(made);
  return made;
}

/** Runs commands; their output. Throws with nft's own words. `json` asks for JSON output of list commands. */
export function runNft(argument: { text: string; json?: boolean; namespace?: string }): string {
  if (!tried) open();
  if (argument.namespace === undefined)
    return library === undefined ? runProgram(argument) : runIn(library, context, argument);
  let output = '';
  inNamespace(argument.namespace, () => {
    if (library === undefined) {
      output = runProgram(argument);
      return;
    }
    // A context keeps the socket, and with it the namespace, in which it was made.
    const own = newContext(library);
    try {
      output = runIn(library, own, argument);
    } finally {
      library.nft_ctx_free(own);
    }
  });
  return output;
}

function runIn(from: Library, at: bigint, argument: { text: string; json?: boolean }): string {
  from.nft_ctx_output_set_flags(at, argument.json === true ? 1 << 4 : 0);
  const result = Number(from.nft_run_cmd_from_buffer(at, argument.text));
  const output = readCString(from.nft_ctx_get_output_buffer(at) as bigint);
  const errors = readCString(from.nft_ctx_get_error_buffer(at) as bigint);
  if (result !== 0) throw new Error(`nft: ${errors.trim()}`);
  return output;
}

function runProgram(argument: { text: string; json?: boolean }): string {
  try {
    return execFileSync('nft', [...(argument.json === true ? ['-j'] : []), '-f', '-'], {
      input: argument.text,
      encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'pipe'],
    });
  } catch (error) {
    throw new Error(`nft: ${String((error as { stderr?: string }).stderr ?? error).trim()}`, { cause: error });
  }
}
