/** Why a receiver cannot be reached, in Go's words. */
import { codeOf, messageOf } from '#base/thrown.ts';

const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connect: connection refused',
  ENOENT: 'connect: no such file or directory',
  ENOTFOUND: 'no such host',
  EHOSTUNREACH: 'connect: no route to host',
  ENETUNREACH: 'connect: network is unreachable',
  EACCES: 'connect: permission denied',
};

export function connectionError(network: string, address: string, error: unknown): Error {
  return new Error(`dial ${network} ${address}: ${words[codeOf(error) ?? ''] ?? messageOf(error)}`, { cause: error });
}
