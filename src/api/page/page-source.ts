/**
 * Where the page comes from. Run from its sources parityd builds it at the start; of the executable
 * build.ts puts what was built in place of this file.
 */
import { bundlePage } from "./page-bundle.ts";
import type { PageFile } from "./page-file.ts";

export function loadPage(): Promise<readonly PageFile[]> {
  return bundlePage();
}
