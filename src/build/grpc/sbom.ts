/**
 * What is in an image: a scanner, itself an image, runs over the build's files and leaves documents in SPDX's form. It
 * finds the files at `BUILDKIT_SCAN_SOURCE` and puts in-toto statements into `BUILDKIT_SCAN_DESTINATION`.
 *
 * Source: BuildKit, "SBOM scanning protocol".
 */
import { ApiError } from '#base/errors.ts';
import { hostPlatform } from '#base/platform.ts';
import { itemsOf, textOf, isObject } from '#base/unknown.ts';
import { lstatSync, readdirSync } from '#os/named-files.ts';
import { makeVertex } from '../llb/codec.ts';
import type { Edge, ExecMount, ExecOp } from '../llb/vertex.ts';
import { rootMount } from '../llb/vertex-parts.ts';
import type { Job } from './job.ts';
import { statementBytesMax, statementsMax } from './limits.ts';
import { readFileRange } from './look.ts';
import type { Statement, Subject } from './statement.ts';

export interface Scanner {
  image: string;
  /** Without their prefix. */
  environment: Readonly<Record<string, string>>;
}

const spdxType = 'https://spdx.dev/Document';
const destination = '/run/out';
const source = '/run/src/core/sbom';

export function parseScanner(fields: Readonly<Record<string, string>>): Scanner {
  const { generator = '', disabled: _disabled, 'inline-only': _inlineOnly, ...environment } = fields;
  return { image: generator === '' ? 'docker/buildkit-syft-scanner:stable-1' : generator, environment };
}

/** The command of the scanner over the files; its output is what it found. */
async function scanVertex(job: Job, { name, edge }: Subject, { image, environment }: Scanner): Promise<Edge> {
  const about = { name: `[internal] scanner ${image}`, platform: hostPlatform() };
  const identifier = `docker-image://${image}`;
  const scanner = { vertex: makeVertex({ kind: 'source', identifier, attributes: {} }, [], about), output: 0 };
  const { file } = await job.sources.image(scanner);
  const args = [...(file.config?.Entrypoint ?? []), ...(file.config?.Cmd ?? [])];
  if (args.length === 0) throw new ApiError('BadRequest', `scanner ${image.slice(0, 200)} does not have cmd`);
  const { output: _output, ...empty } = rootMount;
  const mounts: ExecMount[] = [
    { ...empty, input: 0 },
    { ...empty, ...(edge === undefined ? {} : { input: 1 }), target: source, isReadOnly: true },
    { ...rootMount, target: destination },
    { ...empty, kind: 'tmpfs', target: '/tmp' },
  ];
  const op: ExecOp = {
    kind: 'exec',
    args,
    env: [
      ...(file.config?.Env ?? []),
      `BUILDKIT_SCAN_DESTINATION=${destination}`,
      `BUILDKIT_SCAN_SOURCE=${source}`,
      ...Object.entries(environment).map(([key, value]) => `BUILDKIT_SCAN_${key}=${value}`),
    ],
    cwd: file.config?.WorkingDir || '/',
    user: file.config?.User ?? '',
    proxyEnv: {},
    extraHosts: [],
    hostname: '',
    ulimits: [],
    cgroupParent: '',
    validExitCodes: [],
    mounts,
    network: 'sandbox',
    isInsecure: false,
    secretEnv: [],
    devices: [],
  };
  const vertex = makeVertex(op, edge === undefined ? [scanner] : [scanner, edge], {
    name: `[${name}] generating sbom using ${image}`,
    platform: hostPlatform(),
  });
  return { vertex, output: 0 };
}

function readStatement(root: string, name: string): Statement {
  const info = lstatSync(`${root}/${name}`);
  if (!info.isFile()) throw new ApiError('BadRequest', `${name}: the scanner's results are no regular files`);
  if (info.size > statementBytesMax) throw new ApiError('BadRequest', `${name} exceeds ${statementBytesMax} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(readFileRange(root, name, 0, info.size).toString('utf8'));
  } catch {
    throw new ApiError('BadRequest', `cannot decode in-toto statement ${name}`);
  }
  const predicateType = textOf(value, 'predicateType') ?? '';
  if (predicateType !== spdxType)
    throw new ApiError(
      'BadRequest',
      `bundle entry ${predicateType.slice(0, 200)} does not match required predicate type ${spdxType}`,
    );
  const subjects = itemsOf(isObject(value) ? value['subject'] : undefined);
  return {
    filename: name,
    predicateType,
    predicate: isObject(value) ? value['predicate'] : undefined,
    ...(subjects.length === 0 ? {} : { subjects }),
  };
}

export async function scan(job: Job, subject: Subject, scanner: Scanner): Promise<Statement[]> {
  const found = await scanVertex(job, subject, scanner);
  return job.look(found, async (root) => {
    const isCore = (name: string): boolean => name.split('.')[0] === 'sbom';
    const names = readdirSync(root).sort();
    if (names.length > statementsMax)
      throw new ApiError('BadRequest', `a scanner gives at most ${statementsMax} files`);
    return [...names.filter(isCore), ...names.filter((name) => !isCore(name))].map((name) => readStatement(root, name));
  });
}
