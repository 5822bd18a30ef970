/** References to kinds, for those who take them from here. */
export { kindOf, kinds } from '#base/kinds.ts';
