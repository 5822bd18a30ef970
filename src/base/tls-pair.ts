/** A certificate and a key as a server of TLS has them: whether they are a pair, in the words of Go's library. */
import { createPrivateKey, X509Certificate } from 'node:crypto';

/** Both as PEM. Answers what is wrong, or ''. */
export function pairProblem(certificate: string, key: string): string {
  if (!certificate.includes('-----BEGIN ')) return 'tls: failed to find any PEM data in certificate input';
  if (!key.includes('-----BEGIN ')) return 'tls: failed to find any PEM data in key input';
  try {
    const pair = new X509Certificate(certificate);
    return pair.checkPrivateKey(createPrivateKey(key)) ? '' : 'tls: private key does not match public key';
  } catch {
    return 'tls: failed to parse private key';
  }
}
