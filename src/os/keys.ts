/** Private keys, drawn by the system. */
import { generateKeyPair, generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { promisify } from 'node:util';

const generate = promisify(generateKeyPair);

/**
 * A new private key of a type that Pods' certificates may have, as the API names it: `RSA3072`, `RSA4096`, `ECDSAP256`,
 * `ECDSAP384`, `ECDSAP521`, `ED25519`. An RSA key may take seconds, which a thread of its own spends.
 */
export async function generateKey(type: string): Promise<KeyObject> {
  const pair = await pairOf(type);
  return pair.privateKey;
}

function pairOf(type: string): Promise<{ privateKey: KeyObject }> {
  switch (type) {
    case 'RSA3072':
      return generate('rsa', { modulusLength: 3072 });
    case 'RSA4096':
      return generate('rsa', { modulusLength: 4096 });
    case 'ECDSAP256':
      return generate('ec', { namedCurve: 'P-256' });
    case 'ECDSAP384':
      return generate('ec', { namedCurve: 'P-384' });
    case 'ECDSAP521':
      return generate('ec', { namedCurve: 'P-521' });
    case 'ED25519':
      return Promise.resolve(generateKeyPairSync('ed25519'));
    default:
      throw new Error(`keys of type ${JSON.stringify(type)} are not made here`);
  }
}
