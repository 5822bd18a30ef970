/**
 * Front ends in images (`# syntax=IMAGE`, `gateway.v0`): the image's program runs as a step of the build and asks the
 * bridge over its standard input and output, which are one gRPC connection. Its options are in its environment.
 */
import { duplexPair } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import { formatPlatform, hostPlatform } from '#base/platform.ts';
import { canonicalName, parseReference, withDefaultTag } from '#base/reference.ts';
import { makeVertex } from '../llb/codec.ts';
import { plainExec, rootMount } from '../llb/vertex-parts.ts';
import type { ExecOp } from '../llb/vertex.ts';
import { serveGrpc, unary } from './grpc.ts';
import type { Request } from './grpc.ts';
import type { Job, Returned } from './job.ts';
import type { Result } from './result.ts';
import type { Message } from '#grpc/fields.ts';

export interface ImageFrontend {
  image: string;
  options: Readonly<Record<string, string>>;
  inputs: Message;
}

type Methods = [string, (call: Request) => Promise<Message>][];

const noNetworkLabel = 'moby.buildkit.frontend.network.none';

/** Runs the front end to its end. Throws what it says went wrong. */
export async function runImageFrontend(
  job: Job,
  { image, options }: ImageFrontend,
  methodsFor: (returned: Returned) => Methods,
): Promise<Result> {
  const reference = canonicalName(withDefaultTag(parseReference(image)));
  const source = { kind: 'source' as const, identifier: `docker-image://${reference}`, attributes: {} };
  const vertex = makeVertex(source, [], { name: `resolve image config for docker-image://${reference}` });
  const edge = { vertex, output: 0 };
  const { config = {} } = (await job.sources.image(edge)).file;
  const args = [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
  const labels = config.Labels ?? {};
  const op: ExecOp = {
    ...plainExec,
    args: args.length === 0 ? ['/run'] : args,
    env: [...(config.Env ?? []), ...environmentOf(job, options)],
    cwd: config.WorkingDir === undefined || config.WorkingDir === '' ? '/' : config.WorkingDir,
    user: config.User ?? '',
    mounts: [{ ...rootMount, input: 0 }],
    network: /^(?:1|t|true)$/i.test(labels[noNetworkLabel] ?? '') ? 'none' : 'sandbox',
  };
  const returned = Promise.withResolvers<Result | undefined>();
  // It is looked at when the program has ended.
  returned.promise.catch(() => undefined);
  const [ours, theirs] = duplexPair();
  // A program that speaks something else is not waited for, and nothing waits for it to be read.
  const gone = new AbortController();
  const isOver = AbortSignal.any([job.signal, gone.signal]);
  ours.once('close', () => {
    gone.abort(new ApiError('BadRequest', `the front end ${image.slice(0, 200)} does not speak the protocol`));
    theirs.destroy();
  });
  isOver.addEventListener('abort', () => ours.destroy(), { once: true });
  serveGrpc(ours, new Map(methodsFor(returned).map(([path, handle]) => [path, unary(handle)])));
  try {
    await job.command(op, edge, { io: { stdin: theirs, stdout: theirs }, signal: isOver }).catch((error: unknown) => {
      returned.reject(error);
    });
    returned.reject(new ApiError('BadRequest', `the front end ${image.slice(0, 200)} ended without a result`));
    const result = await returned.promise;
    if (result === undefined) throw new ApiError('BadRequest', `the front end ${image.slice(0, 200)} gave no result`);
    return result;
  } finally {
    ours.destroy();
    theirs.destroy();
  }
}

function environmentOf(job: Job, options: Readonly<Record<string, string>>): string[] {
  const { os, architecture, variant = '' } = hostPlatform();
  const workers = [
    {
      ID: 'tiphys',
      Labels: { platform: formatPlatform(hostPlatform()) },
      Platforms: [{ os, architecture, ...(variant === '' ? {} : { variant }) }],
    },
  ];
  return [
    ...Object.entries(options).map(([name, value], index) => `BUILDKIT_FRONTEND_OPT_${index}=${name}=${value}`),
    `BUILDKIT_SESSION_ID=${job.request.sessionId}`,
    `BUILDKIT_WORKERS=${JSON.stringify(workers)}`,
    'BUILDKIT_EXPORTEDPRODUCT=tiphys',
  ];
}
