/** kube-apiserver's flags of an instance: looked at before anything starts, as the server would only fail with them. */
import { parseAuditPolicy } from '#apiserver/audit/policy.ts';
import { readConfig } from '#apiserver/audit/open-audit.ts';
import { ServerFlags } from '#apiserver/server-flags.ts';
import { serverOfKubeconfig } from '#apiserver/webhook-kubeconfig.ts';

/** What the words leave to be kept; an empty word takes back what was there. Throws BadRequest. */
export function checkServerArguments(words: readonly string[]): string[] {
  const kept = words.filter((word) => word !== '');
  const flags = new ServerFlags(kept);
  const policy = flags.text('audit-policy-file');
  if (policy !== '') parseAuditPolicy(readConfig(policy, 'audit-policy-file'), policy);
  for (const flag of ['audit-webhook-config-file']) if (flags.has(flag)) serverOfKubeconfig(flags.text(flag)).close();
  return kept;
}
