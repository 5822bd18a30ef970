/** kube-apiserver's flags of an instance: looked at before anything starts, as the server would only fail with them. */
import { parseAuditPolicy } from '#apiserver/audit/policy.ts';
import { jwtConfigOfFlags, parseAuthenticationConfig } from '#apiserver/authn/authentication-config.ts';
import { proxyConfigOf } from '#apiserver/authn/request-header.ts';
import { authorizersOfFlags, parseAuthorizationConfig } from '#apiserver/authz/authorizers.ts';
import { readConfig } from '#apiserver/read-config.ts';
import { ServerFlags } from '#apiserver/server-flags.ts';
import { serverOfKubeconfig } from '#apiserver/webhook-kubeconfig.ts';

/** What the words leave to be kept; an empty word takes back what was there. Throws BadRequest. */
export function checkServerArguments(words: readonly string[]): string[] {
  const kept = words.filter((word) => word !== '');
  const flags = new ServerFlags(kept);
  const check = (flag: string, parse: (text: string, file: string) => unknown): boolean => {
    const file = flags.text(flag);
    if (file !== '') parse(readConfig(file, flag), file);
    return file !== '';
  };
  check('audit-policy-file', parseAuditPolicy);
  if (!check('authentication-config', (text, file) => parseAuthenticationConfig(text, file, '')))
    jwtConfigOfFlags(flags, '');
  if (!check('authorization-config', parseAuthorizationConfig)) authorizersOfFlags(flags);
  proxyConfigOf(flags);
  for (const flag of ['audit-webhook', 'authentication-token-webhook', 'authorization-webhook'])
    check(`${flag}-config-file`, (_text, file) => serverOfKubeconfig(file).close());
  return kept;
}
