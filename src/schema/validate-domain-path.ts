/** Names of the form `example.com/path` (API conventions, "Domain-prefixed path"). */
import type { FieldErrors } from './field-errors.ts';
import { subdomainProblem } from './name-forms.ts';

const pathForm = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+";
const path = new RegExp(`^${pathForm}$`);

export function validateDomainPath(text: string, at: string, errors: FieldErrors): void {
  if (text === '') {
    errors.required(at);
    return;
  }
  const cut = text.indexOf('/');
  if (cut <= 0 || cut === text.length - 1) {
    errors.invalid(at, text, 'must be a domain-prefixed path (such as "acme.io/foo")');
    return;
  }
  const [host, rest] = [text.slice(0, cut), text.slice(cut + 1)];
  if (subdomainProblem(host) !== '') errors.invalid(at, host, subdomainProblem(host));
  if (!path.test(rest)) errors.invalid(at, rest, `Invalid path (regex used for validation is '${pathForm}')`);
}
