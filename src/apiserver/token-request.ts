/** `serviceaccounts/token` (Kubernetes, "TokenRequest"): a token of the account, bound to what it is asked for. */
import type { BoundObjectReference, TokenRequest } from '#api/authentication.v1.ts';
import type { Node, Pod, Secret } from '#api/core.v1.ts';
import type { ApiResponse } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { isOf, type KindRef } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import { issuerOf } from './authn/authenticate.ts';
import { nodeNameOf } from './authz/node.ts';
import type { RequestContext } from './context.ts';
import { bodyKind, decodeAs } from './decode.ts';
import { tokenSecondsMin } from './limits.ts';
import { lookUp } from './lookup.ts';
import { forbiddenBy } from './object-errors.ts';
import { getStored } from './read.ts';
import { answerObject } from './respond.ts';
import type { BoundClaim, BoundClaims } from './tokens.ts';

const tokenSecondsDefault = 3600;
const tokenSecondsLimit = 2 ** 32;
const tokenRequest = bodyKind<TokenRequest>(
  'authentication.k8s.io/v1',
  'TokenRequest',
  'authentication.v1/TokenRequest',
);

export async function handleToken(context: RequestContext): Promise<ApiResponse> {
  const { server, info, user } = context;
  const account = server.objects.view(await getStored(context));
  const request = decodeAs(context, tokenRequest);
  const { spec = {} } = request;
  const seconds = spec.expirationSeconds ?? tokenSecondsDefault;
  checkSeconds(seconds);
  const { audiences: asked = [] } = spec;
  const audiences = asked.length > 0 ? asked : [issuerOf(server)];
  const bound = spec.boundObjectRef === undefined ? {} : await boundObjects(context, spec.boundObjectRef);
  if (nodeNameOf(user) !== undefined && bound.pod === undefined)
    throw forbiddenBy(context, info.name, `node requested token not bound to a pod`);
  const now = Math.floor(server.clock.now() / 1000);
  const token = server.tokens.sign({
    iss: issuerOf(server),
    aud: audiences,
    sub: `system:serviceaccount:${info.namespace}:${info.name}`,
    iat: now,
    nbf: now,
    exp: now + seconds,
    jti: server.random.uuid(),
    'kubernetes.io': {
      namespace: info.namespace,
      serviceaccount: claimOf(info.name, account.metadata.uid),
      ...bound,
    },
  });
  const answer: TokenRequest = {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    metadata: { name: info.name, namespace: info.namespace, creationTimestamp: timestamp(server.clock.now()) },
    spec: { ...spec, audiences, expirationSeconds: seconds },
    status: { token, expirationTimestamp: timestamp((now + seconds) * 1000) },
  };
  return answerObject(context, answer, 201, null);
}

function checkSeconds(seconds: number): void {
  const problem =
    seconds < tokenSecondsMin
      ? 'may not specify a duration less than 10 minutes'
      : seconds > tokenSecondsLimit
        ? 'may not specify a duration larger than 2^32 seconds'
        : undefined;
  if (problem === undefined) return;
  const message = `Invalid value: ${seconds}: ${problem}`;
  throw new ApiError(
    'Invalid',
    `TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: ${message}`,
    {
      group: 'authentication.k8s.io',
      kind: 'TokenRequest',
      causes: [{ reason: 'FieldValueInvalid', message, field: 'spec.expirationSeconds' }],
    },
  );
}

const claimOf = (name: string, uid: string | undefined): BoundClaim => ({
  name,
  ...(uid === undefined ? {} : { uid }),
});

const bindable = new Map<string | undefined, KindRef<Pod | Secret | Node>>(
  [kinds.Pod, kinds.Secret, kinds.Node].map((kind) => [kind.kind, kind]),
);

/** What the token is bound to: the object, and the node of a Pod. */
async function boundObjects(
  { server, info }: RequestContext,
  reference: BoundObjectReference,
): Promise<Partial<BoundClaims>> {
  const kind = bindable.get(reference.kind);
  if (kind === undefined)
    throw new ApiError(
      'BadRequest',
      `cannot bind token for serviceaccount to object of type /v1, Kind=${reference.kind ?? ''}`,
    );
  const { name = '' } = reference;
  const object = await lookUp(server, kind, name, info.namespace);
  if (object === undefined)
    throw new ApiError('NotFound', `${kind.resource} ${JSON.stringify(name)} not found`, { name, kind: kind.resource });
  const claim = claimOf(name, object.metadata.uid);
  if (reference.uid && reference.uid !== claim.uid)
    throw new ApiError(
      'Conflict',
      `the UID in the bound object reference (${reference.uid}) does not match the UID in record. The object might have been deleted and then recreated`,
    );
  if (isOf(kinds.Secret, object)) return { secret: claim };
  if (isOf(kinds.Node, object)) return { node: claim };
  const { serviceAccountName = 'default', nodeName } = object.spec;
  if (serviceAccountName !== info.name)
    throw new ApiError(
      'BadRequest',
      `cannot bind token for serviceaccount ${JSON.stringify(info.name)} to pod running with different serviceaccount name.`,
    );
  if (!nodeName) return { pod: claim };
  const node = await lookUp(server, kinds.Node, nodeName);
  return { pod: claim, node: claimOf(nodeName, node?.metadata.uid) };
}
