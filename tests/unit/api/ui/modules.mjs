/** Where the modules under test are. */

export const MODULES = new URL("../../../../api/ui/static/modules/", import.meta.url);

export function load(name) {
  return import(new URL(name, MODULES));
}
