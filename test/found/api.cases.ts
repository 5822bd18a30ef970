/** Cases of the API server, its schemas, its store and the controllers. */
import type { FoundCase } from './case.ts';

export const cases: FoundCase[] = [
  { id: 'B1', behaviour: 'Aliases of a YAML document expand to no more than twice its text and a megabyte', file: 'src/base/yaml.test.ts', title: 'expands aliases to twice the text and a megabyte, and no further' },
  { id: 'B2', behaviour: 'A JSON Patch copies and moves within bounds', file: 'src/base/json.test.ts', title: 'copies and moves aside within bounds' },
  { id: 'B4', behaviour: 'Patterns of users are RE2, in time that grows with the text alone; wrong ones are refused with the definition', file: 'src/base/pattern.test.ts', title: 'patterns of users' },
  { id: 'B10', behaviour: 'Each part of an impersonation is checked, also uid and each value of each extra field', file: 'src/apiserver/access.test.ts', title: 'checks each part of an impersonation' },
  { id: 'B11', behaviour: 'Proxies of Pods, Services and nodes reach no loopback, link-local or control plane address', file: 'src/apiserver/connect.test.ts', title: 'proxies' },
  { id: 'K05', behaviour: 'What a second manager applies comes behind the items that are there', file: 'src/schema/schema.test.ts', title: 'the order of merged lists' },
  { id: 'K06', behaviour: 'A strategic merge patch puts what it adds in front, and follows partial orders', file: 'src/schema/schema.test.ts', title: 'puts what a patch adds in front, unless the patch or the live list says where it goes' },
  { id: 'K07', behaviour: 'An apply starts again when the object came or went meanwhile', file: 'src/apiserver/patch-apply.test.ts', title: 'never fails since the object came or went meanwhile' },
  { id: 'K03', behaviour: 'Pods that the Job controller itself takes away are no failures', file: 'src/controllers/job.test.ts', title: 'Pods that the Job itself takes away are no failures' },
  { id: 'K04', behaviour: 'Eviction through the API writes DisruptionTarget on the Pod', file: 'src/apiserver/admission.test.ts', title: 'an evicted Pod says that it is disrupted, unless it has ended' },
  { id: 'K25', behaviour: 'An object that leaves a selector is shown as it last matched, with the version that ended it', file: 'src/apiserver/watch.test.ts', title: 'shows objects that begin and cease to match a selector as added and deleted' },
  { id: 'R11', behaviour: 'A large list goes out in pieces, in every form', file: 'src/apiserver/objects.test.ts', title: 'goes out in pieces when it is large, in every form' },
  { id: 'R12', behaviour: 'Health endpoints fail while no write succeeds (the API server\'s part)', file: 'src/apiserver/objects.test.ts', title: 'fails while no write succeeds, and says no more than that' },
  { id: 'R13', behaviour: 'The database file gives free pages back while nobody writes', file: 'src/store/sqlite.test.ts', title: 'gives room back while nobody writes, also from a file that could not' },
  { id: 'K09', behaviour: 'Fields that the old type of a Service needed go when the new one does not, where the writer left them', file: 'src/apiserver/validation.test.ts', title: 'drops what a new type of Service does not need, where the writer left it' },
  { id: 'K32', behaviour: 'Names of Services may begin with a digit', file: 'src/apiserver/validation.test.ts', title: 'accepts what is right' },
  { id: 'K34', behaviour: 'Fields of a schedule have ranges', file: 'src/apiserver/validation.test.ts', title: 'refuses what must be refused, with field and reason' },
  { id: 'K49', behaviour: 'Services, policies, quotas, limits, leases, webhooks and slices that must be refused are', file: 'src/apiserver/validation.test.ts', title: 'refuses what must be refused, with field and reason' },
  { id: 'B15', behaviour: 'Upper bounds that a message names are checked; integers beyond 2^53 are kept exactly or refused', file: 'src/base/json.test.ts', title: 'refuses numbers that would be changed, and keeps those that a double holds' },
  { id: 'K10', behaviour: 'Endpoints made by hand of a Service without selector are mirrored into slices', file: 'src/controllers/secrets-and-slices.test.ts', title: 'Endpoints of a Service without selector become slices, one for each subset and family' },
  { id: 'K13', behaviour: 'The API server puts its own Service, endpoints and Namespaces back while it runs', file: 'src/apiserver/objects.test.ts', title: 'are put back while it runs' },
  { id: 'K14', behaviour: 'Secrets of type service-account-token are filled, and go with their account', file: 'src/controllers/secrets-and-slices.test.ts', title: 'a token Secret is filled once, and goes with its account' },
  { id: 'K21', behaviour: 'Definitions whose schema is not structural, or whose default does not pass it, are refused', file: 'src/apiserver/admission.test.ts', title: 'are refused where their schema is not structural' },
  { id: 'K28', behaviour: 'Approved certificate requests of the cluster\'s signers are signed', file: 'src/controllers/certificate-signer.test.ts', title: 'approved requests of the cluster' },
];
