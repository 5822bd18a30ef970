/** `tiphys env` and `tiphys kubeconfig`. */
import { readIfExists } from '#os/files.ts';
import { loadInstance, runsServer } from '#platform/instance.ts';
import { files, pathsOf } from '#platform/paths.ts';
import { print, UsageError } from '../output.ts';

export function env(options: { json?: boolean }): void {
  const paths = pathsOf(process.env);
  const values = {
    DOCKER_HOST: `unix://${files.dockerSocket(paths)}`,
    // A machine that joined a cluster administers none.
    ...(runsServer(loadInstance(paths) ?? {}) ? { KUBECONFIG: files.adminConfig(paths) } : {}),
  };
  if (options.json === true) {
    print(JSON.stringify(values));
    return;
  }
  for (const [name, value] of Object.entries(values)) print(`export ${name}='${value.replaceAll("'", "'\\''")}'`);
}

export function kubeconfig(): void {
  const path = files.adminConfig(pathsOf(process.env));
  const text = readIfExists(path);
  const joined = loadInstance(pathsOf(process.env))?.joined;
  if (joined !== undefined && joined.isServer !== true)
    throw new UsageError(`this machine is a node of the cluster of ${joined.server}: its kubeconfig is there`);
  if (text === undefined) throw new UsageError(`${path} is not there: run 'tiphys up' first`);
  process.stdout.write(text);
}
