/**
 * From the claims of a token to a user (Kubernetes, "Authenticating", "OpenID Connect tokens", "Authentication
 * configuration"): rules that the claims must meet, what of them is the name, the groups, the UID and extra fields, and
 * rules that the user must meet.
 */
import type { UserInfo } from '#base/api-request.ts';
import { fromJson, toJson } from '#cel/json-values.ts';
import type { Program } from '#cel/program.ts';
import { types } from '#cel/types.ts';
import { isObject, type JsonObject } from '#base/unknown.ts';
import { giveWay } from '#os/turn.ts';
import { compileExpression } from '#schema/admission-expressions.ts';
import { expressionFunctions } from '#schema/format-library.ts';
import { claimsCostMax } from '../limits.ts';

/** A claim by its name, with what goes before its value; or an expression. */
export type Mapping = { claim: string; prefix: string } | { program: Program };

export interface ClaimRules {
  required: readonly { claim: string; value: string }[];
  validations: readonly { program: Program; message: string }[];
  username: Mapping;
  groups: Mapping | undefined;
  uid: Mapping | undefined;
  extra: readonly { key: string; program: Program }[];
  userValidations: readonly { program: Program; message: string }[];
}

const environmentOf = (variable: 'claims' | 'user') => ({
  variables: new Map([[variable, types.dyn]]),
  functions: expressionFunctions,
});

/** Throws a `CompilationError`. */
export function compileClaims(source: string, variable: 'claims' | 'user'): Program {
  return compileExpression(source, environmentOf(variable));
}

/** Rejects with why the claims are nobody's. */
export async function userOfClaims(rules: ClaimRules, claims: JsonObject): Promise<UserInfo> {
  const run = evaluator();
  const ofClaims = (program: Program): Promise<unknown> => run(program, { claims });
  for (const { claim, value } of rules.required)
    if (claims[claim] !== value)
      throw new Error(
        `oidc: required claim ${claim} value does not match. Got = ${String(claims[claim])}, want = ${value}`,
      );
  for (const { program, message } of rules.validations)
    if ((await ofClaims(program)) !== true)
      throw new Error(`oidc: error evaluating claim validation expression: ${message || program.source}`);
  const name = await nameOf(rules.username, claims, ofClaims);
  const groups = await groupsOf(rules.groups, claims, ofClaims);
  const uid = rules.uid === undefined ? '' : await textOf(rules.uid, claims, ofClaims);
  const extra: Record<string, string[]> = {};
  for (const { key, program } of rules.extra) {
    const values = textsIn(await ofClaims(program), key).filter((value) => value !== '');
    if (values.length > 0) extra[key] = values;
  }
  const user: UserInfo = {
    name,
    groups,
    ...(uid === '' ? {} : { uid }),
    ...(Object.keys(extra).length === 0 ? {} : { extra }),
  };
  for (const { program, message } of rules.userValidations)
    if ((await run(program, { user: { username: name, uid, groups, extra } })) !== true)
      throw new Error(`oidc: error evaluating user info validation rule: ${message || program.source}`);
  return user;
}

type Evaluate = (program: Program) => Promise<unknown>;

/** One token's expressions share what they may cost. */
function evaluator(): (program: Program, variables: JsonObject) => Promise<unknown> {
  let left = claimsCostMax;
  return async (program, variables) => {
    const values = Object.fromEntries(Object.entries(variables).map(([name, value]) => [name, fromJson(value)]));
    const { value, cost } = await program.evaluate({ variables: values }, giveWay, Math.max(0, left));
    left -= cost;
    return toJson(value);
  };
}

async function nameOf(mapping: Mapping, claims: JsonObject, evaluate: Evaluate): Promise<string> {
  // An address that the issuer says is not its holder's is nobody's name.
  if ('claim' in mapping && mapping.claim === 'email' && (claims['email_verified'] ?? true) !== true)
    throw new Error('oidc: email not verified');
  const name = await textOf(mapping, claims, evaluate);
  if (name === '') throw new Error('oidc: username is empty');
  return name;
}

async function textOf(mapping: Mapping, claims: JsonObject, evaluate: Evaluate): Promise<string> {
  const value = 'claim' in mapping ? claims[mapping.claim] : await evaluate(mapping.program);
  if (typeof value === 'string') return ('claim' in mapping ? mapping.prefix : '') + value;
  throw new Error(`oidc: ${'claim' in mapping ? `claim ${mapping.claim}` : mapping.program.source} is no text`);
}

async function groupsOf(mapping: Mapping | undefined, claims: JsonObject, evaluate: Evaluate): Promise<string[]> {
  if (mapping === undefined) return [];
  const isClaim = 'claim' in mapping;
  const value = isClaim ? claims[mapping.claim] : await evaluate(mapping.program);
  if (value === undefined && isClaim) return [];
  const groups = textsIn(value, isClaim ? mapping.claim : 'groups');
  return isClaim ? groups.map((group) => mapping.prefix + group) : groups.filter((group) => group !== '');
}

function textsIn(value: unknown, what: string): string[] {
  if (value === null || value === undefined) return [];
  if (typeof value === 'string') return [value];
  const isTexts = (list: readonly unknown[]): list is string[] => list.every((each) => typeof each === 'string');
  if (Array.isArray(value) && isTexts(value)) return value;
  throw new Error(`oidc: ${what} is ${isObject(value) ? 'an object' : 'no list of texts'}`);
}
