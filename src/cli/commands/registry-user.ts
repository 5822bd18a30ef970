/**
 * `tiphys registry-user NAME`: makes a user of the registry, or gives one a new password, which is read from standard
 * input.
 */
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { fieldOf, textOf } from '#base/unknown.ts';
import { files, pathsOf, registrySocket } from '#platform/paths.ts';
import { print, UsageError } from '../output.ts';

interface RegistryUserOptions {
  administrator?: boolean;
  /** The data directory of a registry that runs alone. */
  registry?: string;
}

export async function addRegistryUser(name: string, options: RegistryUserOptions): Promise<void> {
  const socketPath =
    options.registry === undefined ? files.dockerSocket(pathsOf(process.env)) : registrySocket(options.registry);
  if (process.stdin.isTTY) process.stderr.write(`Password for ${name} (ends with Ctrl-D): `);
  const password = (await text(process.stdin)).replace(/\r?\n$/, '');
  const body = JSON.stringify({
    name,
    password,
    ...(options.administrator === undefined ? {} : { administrator: options.administrator }),
  });
  const answer = await new Promise<{ status: number; body: string }>((resolve, reject) => {
    const call = request(
      {
        socketPath,
        method: 'POST',
        path: '/tiphys/registry-users',
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      },
      (response) => {
        text(response).then((received) => resolve({ status: response.statusCode ?? 0, body: received }), reject);
      },
    );
    call.on('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'ENOENT' || error.code === 'ECONNREFUSED'
          ? new UsageError(
              `nothing listens on ${socketPath}: run ${options.registry === undefined ? "'tiphys up'" : "'tiphys registry'"} first`,
            )
          : error,
      ),
    );
    call.end(body);
  });
  const said: unknown = JSON.parse(answer.body);
  if (answer.status !== 200) throw new UsageError(textOf(said, 'message') ?? answer.body);
  const administrator = fieldOf(said, 'administrator') === true;
  print(
    `User ${name} may sign in (docker login, with this registry's address) and push to ${administrator ? 'every repository' : `${name} and ${name}/...`}.`,
  );
}
