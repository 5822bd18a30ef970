/**
 * `authorizer`: whether somebody may do something, asked of the API server's authorisers (Kubernetes documentation,
 * "Common Expression Language in Kubernetes", "Kubernetes authorizer library").
 */
import { declare, textOf, traversal, opaqueOf, type Library } from './declare.ts';
import { opaqueType, type Type } from './types.ts';
import { CelError, sizeOf, type OpaqueValue, type Value } from './values.ts';

/** What is asked; of a path, or of a resource. */
export interface Question {
  /** `namespace` and `name` of a ServiceAccount that is asked for instead of the user. */
  account?: readonly [namespace: string, name: string];
  path?: string;
  group?: string;
  resource?: string;
  subresource?: string;
  namespace?: string;
  name?: string;
  fieldSelector?: string;
  labelSelector?: string;
  verb: string;
}
export interface Answer {
  allowed: boolean;
  reason: string;
  /** Why nothing could be found out. */
  error?: string;
}
/** What evaluations with an authorizer are given. */
export interface AuthorizerHost {
  authorize(question: Question): Promise<Answer>;
}

const name = (of: string): string => `kubernetes.authorization.${of}`;
const [authorizer, pathCheck, groupCheck, resourceCheck, decision] = [
  'Authorizer',
  'PathCheck',
  'GroupCheck',
  'ResourceCheck',
  'Decision',
].map(name) as [string, string, string, string, string];

class Check implements OpaqueValue {
  readonly kind = 'opaque';
  readonly type: Type;
  readonly question: Partial<Question>;
  constructor(type: string, question: Partial<Question>) {
    this.type = opaqueType(type);
    this.question = question;
  }
  equals(other: OpaqueValue): boolean {
    return other === this;
  }
  with(type: string, more: Partial<Question>): Check {
    return new Check(type, { ...this.question, ...more });
  }
}

class Decision implements OpaqueValue {
  readonly kind = 'opaque';
  readonly type: Type = opaqueType(decision);
  readonly answer: Answer;
  constructor(answer: Answer) {
    this.answer = answer;
  }
  equals(other: OpaqueValue): boolean {
    return other === this;
  }
}

export const authorizerType = opaqueType(authorizer);
export const resourceCheckType = opaqueType(resourceCheck);
export const authorizerValue = (): Value => new Check(authorizer, {});
/** The request's own resource, as `authorizer.requestResource` asks about it. */
export const resourceCheckOf = (question: Partial<Question>): Value => new Check(resourceCheck, question);

const checkOf = (value: Value | undefined): Check => opaqueOf(value, Check);
const answerOf = (value: Value | undefined): Answer => opaqueOf(value, Decision).answer;
const selectorCost = ([, text]: readonly Value[]): number =>
  10 + traversal(sizeOf(text!)) + Math.ceil(sizeOf(text!) * 0.5) * 50;

function isHost(host: unknown): host is AuthorizerHost {
  return typeof host === 'object' && host !== null && 'authorize' in host;
}

/** A refinement of what is asked about. */
const part = (field: keyof Question, from: string, to = from): Library[number] =>
  declare(
    field,
    `${from}.(string) ${to}`,
    ([check, text]) => checkOf(check).with(to, { [field]: textOf(text) }),
    field.endsWith('Selector') ? selectorCost : undefined,
  );

function asked(signature: string, verbOf: (args: readonly Value[]) => string): Library[number] {
  const [called, overload] = declare(
    'check',
    signature,
    () => null,
    () => 350_000,
  );
  return [
    called,
    {
      ...overload,
      isAsync: true,
      async run(args, host) {
        if (!isHost(host)) throw new CelError('there is no authorizer here');
        return new Decision(await host.authorize({ ...checkOf(args[0]).question, verb: verbOf(args) }));
      },
    },
  ];
}

export const authorizerLibrary: Library = [
  part('path', authorizer, pathCheck),
  part('group', authorizer, groupCheck),
  declare('serviceAccount', `${authorizer}.(string, string) ${authorizer}`, ([check, namespace, account]) =>
    checkOf(check).with(authorizer, { account: [textOf(namespace), textOf(account)] }),
  ),
  part('resource', groupCheck, resourceCheck),
  part('subresource', resourceCheck),
  part('namespace', resourceCheck),
  part('name', resourceCheck),
  part('fieldSelector', resourceCheck),
  part('labelSelector', resourceCheck),
  asked(`${pathCheck}.(string) ${decision}`, ([, verb]) => textOf(verb)),
  asked(`${resourceCheck}.(string) ${decision}`, ([, verb]) => textOf(verb)),
  declare('allowed', `${decision}.() bool`, ([value]) => answerOf(value).allowed),
  declare('reason', `${decision}.() string`, ([value]) => answerOf(value).reason),
  declare('errored', `${decision}.() bool`, ([value]) => answerOf(value).error !== undefined),
  declare('error', `${decision}.() string`, ([value]) => answerOf(value).error ?? ''),
];
