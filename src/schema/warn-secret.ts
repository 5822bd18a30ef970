/** What is said of a Secret whose certificate and key no server could serve: in the words of Go's TLS library. */
import type { Secret } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { pairProblem } from '#base/tls-pair.ts';

export function warnOfSecret(o: Draft<Secret>, _old: Secret | undefined, warn: (text: string) => void): void {
  if (o.type !== 'kubernetes.io/tls') return;
  const read = (key: string): string => Buffer.from(o.data?.[key] ?? '', 'base64').toString();
  const problem = pairProblem(read('tls.crt'), read('tls.key'));
  if (problem !== '') warn(problem);
}
