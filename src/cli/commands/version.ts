/** `tiphys version`. */
import { apiVersion } from '#docker/server.ts';
import { kubernetesVersion, tiphysVersion } from '#platform/version.ts';
import { print } from '../output.ts';

export function version(options: { json?: boolean }): void {
  const parts = {
    tiphys: tiphysVersion(),
    kubernetes: kubernetesVersion,
    dockerApi: apiVersion,
    node: process.version,
  };
  print(
    options.json === true
      ? JSON.stringify(parts)
      : `tiphys ${parts.tiphys} (Kubernetes API ${parts.kubernetes}, Docker API ${parts.dockerApi}, Node ${parts.node})`,
  );
}
