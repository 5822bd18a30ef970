/** `tiphys env` and `tiphys kubeconfig`. */
import { readIfExists } from '#os/files.ts';
import { files, pathsOf } from '#platform/paths.ts';
import { print, UsageError } from '../output.ts';

export function env(options: { json?: boolean }): void {
  const paths = pathsOf(process.env);
  const values = { DOCKER_HOST: `unix://${files.dockerSocket(paths)}`, KUBECONFIG: files.adminConfig(paths) };
  if (options.json === true) {
    print(JSON.stringify(values));
    return;
  }
  for (const [name, value] of Object.entries(values)) print(`export ${name}='${value.replaceAll("'", "'\\''")}'`);
}

export function kubeconfig(): void {
  const path = files.adminConfig(pathsOf(process.env));
  const text = readIfExists(path);
  if (text === undefined) throw new UsageError(`${path} is not there: run 'tiphys up' first`);
  process.stdout.write(text);
}
