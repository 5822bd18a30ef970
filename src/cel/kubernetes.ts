/** Kubernetes' own functions (Kubernetes documentation, "Common Expression Language in Kubernetes"). */
import {
  contains,
  containsSubnet,
  formatIp,
  formatSubnet,
  ipFamilies,
  isMapped,
  maskIp,
  parseCidr,
  parseIp,
  type IpAddress,
} from '#base/ip.ts';
import { compilePattern, PatternError, type Pattern } from '#base/pattern.ts';
import {
  addQuantities,
  compareQuantities,
  isQuantity,
  parseQuantity,
  subtractQuantities,
  type Quantity,
} from '#base/quantity.ts';
import {
  declare,
  indexOf,
  intOf,
  matchCost,
  opaqueOf,
  textOf,
  traversal,
  traversalOf,
  type Library,
} from './declare.ts';
import { opaqueType, type Type } from './types.ts';
import { CelError, listOf, MapOfValues, sizeOf, type OpaqueValue, type Value } from './values.ts';

function patternOf(text: string): Pattern {
  try {
    return compilePattern(text);
  } catch (error) {
    if (error instanceof PatternError) throw new CelError(`Illegal regex: ${error.message}`);
    throw error;
  }
}

const regexLibrary: Library = [
  declare(
    'find',
    'string.(string) string',
    ([text, pattern]) => patternOf(textOf(pattern)).find(textOf(text), 1)[0] ?? '',
    matchCost,
  ),
  declare(
    'findAll',
    'string.(string) list(string)',
    ([text, pattern]) => listOf(patternOf(textOf(pattern)).find(textOf(text), Infinity)),
    matchCost,
  ),
  declare(
    'findAll',
    'string.(string, int) list(string)',
    ([text, pattern, limit]) => {
      const count = indexOf(limit);
      return listOf(patternOf(textOf(pattern)).find(textOf(text), count < 0 ? Infinity : count));
    },
    matchCost,
  ),
];

class QuantityValue implements OpaqueValue {
  static readonly type: Type = opaqueType('kubernetes.Quantity');
  readonly kind = 'opaque';
  readonly type = QuantityValue.type;
  readonly quantity: Quantity;
  constructor(quantity: Quantity) {
    this.quantity = quantity;
  }
  equals(other: OpaqueValue): boolean {
    return other instanceof QuantityValue && compareQuantities(this.quantity, other.quantity) === 0;
  }
}

const nano = 1_000_000_000n;
const quantityOf = (value: Value | undefined): Quantity => opaqueOf(value, QuantityValue).quantity;
const plusOf = (value: Value | undefined): Quantity =>
  typeof value === 'bigint' ? { ...parseQuantity(0), nano: intOf(value) * nano } : quantityOf(value);
function parsedQuantity(text: string): Quantity {
  if (!isQuantity(text))
    throw new CelError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
  return parseQuantity(text);
}
const q = 'kubernetes.Quantity';

const quantityLibrary: Library = [
  declare('quantity', `(string) ${q}`, ([text]) => new QuantityValue(parsedQuantity(textOf(text))), traversalOf(0)),
  declare('isQuantity', '(string) bool', ([text]) => isQuantity(textOf(text)), traversalOf(0)),
  declare('sign', `${q}.() int`, ([value]) => BigInt(compareQuantities(quantityOf(value), 0))),
  declare('isInteger', `${q}.() bool`, ([value]) => quantityOf(value).nano % nano === 0n),
  declare('asInteger', `${q}.() int`, ([value]) => {
    const { nano: amount } = quantityOf(value);
    if (amount % nano !== 0n) throw new CelError('cannot convert value to integer');
    return amount / nano;
  }),
  declare('asApproximateFloat', `${q}.() double`, ([value]) => Number(quantityOf(value).nano) / 1e9),
  declare('isGreaterThan', `${q}.(${q}) bool`, ([a, b]) => compareQuantities(quantityOf(a), quantityOf(b)) > 0),
  declare('isLessThan', `${q}.(${q}) bool`, ([a, b]) => compareQuantities(quantityOf(a), quantityOf(b)) < 0),
  declare('compareTo', `${q}.(${q}) int`, ([a, b]) => BigInt(compareQuantities(quantityOf(a), quantityOf(b)))),
  ...[q, 'int'].flatMap((other) => [
    declare('add', `${q}.(${other}) ${q}`, ([a, b]) => new QuantityValue(addQuantities(quantityOf(a), plusOf(b)))),
    declare('sub', `${q}.(${other}) ${q}`, ([a, b]) => new QuantityValue(subtractQuantities(quantityOf(a), plusOf(b)))),
  ]),
];

class IpValue implements OpaqueValue {
  readonly kind = 'opaque';
  readonly type: Type = opaqueType('net.IP');
  readonly address: IpAddress;
  readonly size: number;
  constructor(address: IpAddress) {
    this.address = address;
    this.size = address.family === ipFamilies[0] ? 4 : 16;
  }
  equals(other: OpaqueValue): boolean {
    return other instanceof IpValue && formatIp(other.address) === formatIp(this.address);
  }
}

class CidrValue implements OpaqueValue {
  readonly kind = 'opaque';
  readonly type: Type = opaqueType('net.CIDR');
  readonly address: IpAddress;
  readonly length: number;
  readonly size: number;
  constructor({ address, length }: { address: IpAddress; length: number }) {
    this.address = address;
    this.length = length;
    this.size = address.family === ipFamilies[0] ? 4 : 16;
  }
  equals(other: OpaqueValue): boolean {
    return other instanceof CidrValue && this.text === other.text;
  }
  get text(): string {
    return `${formatIp(this.address)}/${this.length}`;
  }
}

/** Neither zones nor IPv4 within IPv6 are addresses of the API. */
function addressOf(text: string): IpAddress | undefined {
  const address = text.includes('%') ? undefined : parseIp(text);
  return address === undefined || (isMapped(address) && address.family !== ipFamilies[0]) ? undefined : address;
}
function rangeOf(text: string): { address: IpAddress; length: number } | undefined {
  const range = text.includes('%') ? undefined : parseCidr(text);
  return range === undefined || (isMapped(range.address) && range.address.family !== ipFamilies[0]) ? undefined : range;
}
function parsedIp(text: string): IpAddress {
  const address = addressOf(text);
  if (address === undefined)
    throw new CelError(`IP Address ${JSON.stringify(text)} parse error during conversion from string`);
  return address;
}
function parsedCidr(text: string): CidrValue {
  const range = rangeOf(text);
  if (range === undefined)
    throw new CelError(`network address parse error during conversion from string: ${JSON.stringify(text)}`);
  return new CidrValue(range);
}
const familyNumber = ({ family }: IpAddress): bigint => (family === ipFamilies[0] ? 4n : 6n);
const within = (address: IpAddress, ...ranges: string[]): boolean => {
  const text = formatIp(address);
  return ranges.some((range) => {
    const found = parseCidr(range);
    return found?.address.family === address.family && contains(maskIp(found.address, found.length), text);
  });
};
const ipTests: readonly [string, (address: IpAddress) => boolean][] = [
  ['isUnspecified', (address) => within(address, '0.0.0.0/32', '::/128')],
  ['isLoopback', (address) => within(address, '127.0.0.0/8', '::1/128')],
  ['isLinkLocalMulticast', (address) => within(address, '224.0.0.0/24', 'ff02::/16')],
  ['isLinkLocalUnicast', (address) => within(address, '169.254.0.0/16', 'fe80::/10')],
  [
    'isGlobalUnicast',
    (address) =>
      !within(address, '0.0.0.0/32', '255.255.255.255/32', '127.0.0.0/8', '224.0.0.0/4', '169.254.0.0/16') &&
      !within(address, '::/128', '::1/128', 'ff00::/8', 'fe80::/10'),
  ],
];
const ipIn = (value: Value | undefined): IpAddress =>
  typeof value === 'string' ? parsedIp(value) : opaqueOf(value, IpValue).address;
const cidrIn = (value: Value | undefined): CidrValue =>
  typeof value === 'string' ? parsedCidr(value) : opaqueOf(value, CidrValue);
const cidrCost = ([range, other]: readonly Value[]): number =>
  traversal(2 * sizeOf(range!)) + (typeof other === 'string' ? traversal(other.length) : 0);

const networkLibrary: Library = [
  declare('ip', '(string) net.IP', ([text]) => new IpValue(parsedIp(textOf(text))), traversalOf(0)),
  declare('isIP', '(string) bool', ([text]) => addressOf(textOf(text)) !== undefined, traversalOf(0)),
  declare('ip.isCanonical', '(string) bool', ([text]) => formatIp(parsedIp(textOf(text))) === text, traversalOf(0, 2)),
  declare('family', 'net.IP.() int', ([value]) => familyNumber(ipIn(value))),
  ...ipTests.map(([name, test]) => declare(name, 'net.IP.() bool', ([value]) => test(ipIn(value)))),
  declare('string', '(net.IP) string', ([value]) => formatIp(ipIn(value))),
  declare('cidr', '(string) net.CIDR', ([text]) => parsedCidr(textOf(text)), traversalOf(0)),
  declare('isCIDR', '(string) bool', ([text]) => rangeOf(textOf(text)) !== undefined, traversalOf(0)),
  declare('ip', 'net.CIDR.() net.IP', ([range]) => new IpValue(cidrIn(range).address)),
  declare('masked', 'net.CIDR.() net.CIDR', ([range]) => {
    const { address, length } = cidrIn(range);
    return parsedCidr(formatSubnet(maskIp(address, length)));
  }),
  declare('prefixLength', 'net.CIDR.() int', ([range]) => BigInt(cidrIn(range).length)),
  declare('string', '(net.CIDR) string', ([range]) => cidrIn(range).text),
  ...['string', 'net.IP'].map((type) =>
    declare(
      'containsIP',
      `net.CIDR.(${type}) bool`,
      ([range, ip]) => {
        const { address, length } = cidrIn(range);
        const inner = ipIn(ip);
        return inner.family === address.family && contains(maskIp(address, length), formatIp(inner));
      },
      cidrCost,
    ),
  ),
  ...['string', 'net.CIDR'].map((type) =>
    declare(
      'containsCIDR',
      `net.CIDR.(${type}) bool`,
      ([range, other]) => {
        const [outer, inner] = [cidrIn(range), cidrIn(other)];
        return (
          outer.address.family === inner.address.family &&
          containsSubnet(maskIp(outer.address, outer.length), maskIp(inner.address, inner.length))
        );
      },
      cidrCost,
    ),
  ),
];

class UrlValue implements OpaqueValue {
  readonly kind = 'opaque';
  readonly type: Type = opaqueType('kubernetes.URL');
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  equals(other: OpaqueValue): boolean {
    return other instanceof UrlValue && other.text === this.text;
  }
  /** Scheme, authority, path, query; as RFC 3986 splits a reference. */
  get parts(): { scheme: string; host: string; path: string; query: string } {
    const [, scheme = '', authority = '', path = '', query = ''] =
      /^(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?/.exec(this.text) ?? [];
    return { scheme: scheme.toLowerCase(), host: authority.replace(/^.*@/, ''), path, query };
  }
}
/** An absolute URI or path. */
const isUrl = (text: string): boolean =>
  // eslint-disable-next-line no-control-regex -- control characters are what a URL must not have.
  !/[\u0000-\u0020\u007f]/.test(text) &&
  !/%(?![0-9a-fA-F]{2})/.test(text) &&
  (text.startsWith('/') || /^[A-Za-z][A-Za-z0-9+.-]*:/.test(text)) &&
  !/^[a-z]+:\/\/[^/?#]*[<>"\\^`{|}]/i.test(text);
function parsedUrl(text: string): UrlValue {
  if (!isUrl(text))
    throw new CelError(
      `URL parse error during conversion from string: parse ${JSON.stringify(text)}: invalid URI for request`,
    );
  return new UrlValue(text);
}
const urlIn = (value: Value | undefined): UrlValue['parts'] => opaqueOf(value, UrlValue).parts;
function queryOf(query: string): MapOfValues {
  const values = new Map<string, string[]>();
  for (const [key, value] of new URLSearchParams(query)) values.set(key, [...(values.get(key) ?? []), value]);
  const map = new MapOfValues();
  for (const [key, list] of values) map.add(key, listOf(list));
  return map;
}
const u = 'kubernetes.URL';

const urlLibrary: Library = [
  declare('url', `(string) ${u}`, ([text]) => parsedUrl(textOf(text)), traversalOf(0)),
  declare('isURL', '(string) bool', ([text]) => isUrl(textOf(text)), traversalOf(0)),
  declare('getScheme', `${u}.() string`, ([url]) => urlIn(url).scheme),
  declare('getHost', `${u}.() string`, ([url]) => urlIn(url).host),
  declare('getHostname', `${u}.() string`, ([url]) =>
    urlIn(url)
      .host.replace(/:\d*$/, '')
      .replace(/^\[(.*)\]$/, '$1'),
  ),
  declare('getPort', `${u}.() string`, ([url]) => /:(\d*)$/.exec(urlIn(url).host)?.[1] ?? ''),
  declare('getEscapedPath', `${u}.() string`, ([url]) => urlIn(url).path),
  declare('getQuery', `${u}.() map(string, list(string))`, ([url]) => queryOf(urlIn(url).query)),
];

const semverForm = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?$/;

class SemverValue implements OpaqueValue {
  readonly kind = 'opaque';
  readonly type: Type = opaqueType('kubernetes.Semver');
  readonly numbers: readonly bigint[];
  readonly before: readonly string[];
  constructor(text: string) {
    const found = semverForm.exec(text);
    if (found === null) throw new CelError(`semver parse error during conversion from string: ${JSON.stringify(text)}`);
    this.numbers = found.slice(1, 4).map((part) => BigInt(part ?? 0));
    this.before = found[4]?.split('.') ?? [];
  }
  equals(other: OpaqueValue): boolean {
    return other instanceof SemverValue && this.compare(other) === 0;
  }
  /** Precedence as semver.org has it: what comes before a release is less than it. */
  compare(other: SemverValue): number {
    for (const [i, number] of this.numbers.entries()) {
      const against = other.numbers[i] ?? 0n;
      if (number !== against) return number < against ? -1 : 1;
    }
    const [a, b] = [this.before, other.before];
    if (a.length === 0 || b.length === 0) return Math.sign(b.length - a.length);
    for (let i = 0; i < Math.max(a.length, b.length); i++) {
      const order = compareIdentifiers(a[i], b[i]);
      if (order !== 0) return order;
    }
    return 0;
  }
}

function compareIdentifiers(a: string | undefined, b: string | undefined): number {
  if (a === undefined || b === undefined) return a === b ? 0 : a === undefined ? -1 : 1;
  const [x, y] = [/^\d+$/.test(a), /^\d+$/.test(b)];
  if (x && y) return Math.sign(Number(BigInt(a) - BigInt(b)));
  if (x !== y) return x ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}
/** `v1.2` as `1.2.0`: what a lenient reading allows. */
function normalized(text: string): string {
  const found = /^v?(\d+)(?:\.(\d+))?(?:\.(\d+))?([-+].*)?$/.exec(text);
  if (found === null) return text;
  const [, major = '0', minor = '0', patch = '0', rest = ''] = found;
  return `${BigInt(major)}.${BigInt(minor)}.${BigInt(patch)}${rest}`;
}
const s = 'kubernetes.Semver';
const semverIn = (value: Value | undefined): SemverValue => opaqueOf(value, SemverValue);
const versionText = ([text, isLenient]: readonly Value[]): string =>
  isLenient === true ? normalized(textOf(text)) : textOf(text);

const semverLibrary: Library = [
  ...['(string)', '(string, bool)'].flatMap((args) => [
    declare('semver', `${args} ${s}`, (given) => new SemverValue(versionText(given)), traversalOf(0)),
    declare('isSemver', `${args} bool`, (given) => semverForm.test(versionText(given)), traversalOf(0)),
  ]),
  declare('major', `${s}.() int`, ([value]) => semverIn(value).numbers[0] ?? 0n),
  declare('minor', `${s}.() int`, ([value]) => semverIn(value).numbers[1] ?? 0n),
  declare('patch', `${s}.() int`, ([value]) => semverIn(value).numbers[2] ?? 0n),
  declare('isGreaterThan', `${s}.(${s}) bool`, ([a, b]) => semverIn(a).compare(semverIn(b)) > 0),
  declare('isLessThan', `${s}.(${s}) bool`, ([a, b]) => semverIn(a).compare(semverIn(b)) < 0),
  declare('compareTo', `${s}.(${s}) int`, ([a, b]) => BigInt(semverIn(a).compare(semverIn(b)))),
];

/** What every expression of Kubernetes may call. */
export const kubernetesLibrary: Library = [
  ...regexLibrary,
  ...quantityLibrary,
  ...networkLibrary,
  ...urlLibrary,
  ...semverLibrary,
];

/** `~` and `/` as a JSON pointer has them. */
export const jsonPatchLibrary: Library = [
  declare(
    'jsonpatch.escapeKey',
    '(string) string',
    ([key]) => textOf(key).replaceAll('~', '~0').replaceAll('/', '~1'),
    traversalOf(0),
  ),
];
